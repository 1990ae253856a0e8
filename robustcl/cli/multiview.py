"""Run `multiview`."""

from robustcl.studies.multiview.running import multiview

__all__ = ["multiview"]
