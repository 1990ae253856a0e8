"""Run `probe`."""

from robustcl.workflows.probe import probe

__all__ = ["probe"]
