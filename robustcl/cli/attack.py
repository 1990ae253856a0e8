"""Run `attack`."""

from robustcl.workflows.attack import attack

__all__ = ["attack"]
