"""Report a run: records in, tables, figures and one page out; nothing here needs torch."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustcl.report.comparison import write_comparison
    from robustcl.report.page import write_report
    from robustcl.report.suite_page import write_suite_page

__all__ = ["write_comparison", "write_report", "write_suite_page"]

_HOMES = {
    "write_comparison": "robustcl.report.comparison",
    "write_report": "robustcl.report.page",
    "write_suite_page": "robustcl.report.suite_page",
}


def __getattr__(name: str) -> object:
    # What draws loads Matplotlib; whoever only wants a number's text does not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'robustcl.report' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
