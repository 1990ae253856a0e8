"""Run `train`."""

from robustcl.workflows.train import train_and_save as train

__all__ = ["train"]
