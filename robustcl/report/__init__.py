"""Report a run: records in, tables, figures and one page out; nothing here needs torch."""

from robustcl.report.page import write_report

__all__ = ["write_report"]
