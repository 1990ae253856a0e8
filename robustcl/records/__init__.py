"""Run folders: what an audit writes and a report reads, without torch."""

from robustcl.records.beaten import violations
from robustcl.records.images import per_image
from robustcl.records.reading import Run, load_run
from robustcl.records.summary import Summary, summarize

__all__ = ["Run", "Summary", "load_run", "per_image", "summarize", "violations"]
