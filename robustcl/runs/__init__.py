"""Run folders: what an audit writes and a report reads, without torch."""

from robustcl.runs.per_image import per_image
from robustcl.runs.records import Run, load_run
from robustcl.runs.summary import Summary, summarize
from robustcl.runs.violations import violations

__all__ = ["Run", "Summary", "load_run", "per_image", "summarize", "violations"]
