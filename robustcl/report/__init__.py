"""Report a run: records in, tables, figures and one page out; nothing here needs torch."""

from typing import TYPE_CHECKING

from robustcl.core.lazy import lazy_exports

if TYPE_CHECKING:
    from robustcl.report.comparison import write_comparison
    from robustcl.report.page import write_report
    from robustcl.report.suite_page import write_suite_page

__all__ = ["write_comparison", "write_report", "write_suite_page"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)  # figures load Matplotlib
