"""Run `train`."""

from robustcl.workflows.train import train

__all__ = ["train"]
