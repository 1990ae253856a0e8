"""Write text of others into tables and figures such that it stays text."""

import re

from markupsafe import Markup
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

from robustcl.core.terminal import printable

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # what spreadsheets take for a formula
_LONGEST = 120  # letters of a line in a figure
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "∞": r"$\infty$",
}


def csv_cell(value: object) -> object:
    """Keep a cell from acting in a spreadsheet, and on one line.

    Args:
        value: The cell; numbers stay as they are.

    Returns:
        The cell; a text that begins as a formula does gets an apostrophe before it.

    Reference:
        OWASP, CSV Injection.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def markdown_cell(text: str) -> str:
    """Escape a cell of a Markdown table: no column, tag, link, code or emphasis comes of it.

    Args:
        text: The cell.

    Returns:
        One line.
    """
    escaped = re.sub(r"([|\\`*<>\[\]@])", r"\\\1", printable(text))
    return re.sub(r"(?i)\b(www)\.", r"\1\\.", escaped.replace("://", ":\\//"))


def latex_cell(text: str) -> str:
    """Escape a cell of a LaTeX table.

    Args:
        text: The cell.

    Returns:
        One line.
    """
    return "".join(LATEX.get(sign, sign) for sign in printable(text))


def page_text(value: object) -> object:
    """Escape control characters, and marks that turn the direction of reading, for a page.

    What HTML itself gives a meaning is the template's to escape.

    Args:
        value: What a template shows.

    Returns:
        The same, where it is no text of ours to change.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return ACTING.sub(lambda found: printable(found[0]), value)


def plain_texts(figure: Figure) -> None:
    r"""Keep every text of a figure from being read as a formula, endless, or acting.

    Matplotlib takes what stands between two dollar signs for a formula, and fails where it is none.

    Args:
        figure: The figure, when all is drawn into it; its texts are changed.
    """
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            _plain_marks(axis)
        ticks = [label for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels()]
        for text in ax.findobj(Text):
            if isinstance(text, Text) and text not in ticks:
                plain = _plain(text.get_text())
                if plain != text.get_text():
                    text.set_text(plain)


def _plain_marks(axis: Axis) -> None:
    # Only labels that were given: those of numbers may be formulas of matplotlib's own.
    marks = axis.get_major_formatter()
    if isinstance(marks, FixedFormatter):
        axis.set_major_formatter(FixedFormatter([_plain(text) for text in marks.seq]))
    elif isinstance(marks, FuncFormatter):
        given = marks.func
        axis.set_major_formatter(FuncFormatter(lambda x, place: _plain(given(x, place))))


def _plain(text: str) -> str:
    # Lines that a figure of ours breaks stay lines.
    lines = [printable(line) for line in text.split("\n")]
    lines = [line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…" for line in lines]
    return re.sub(r"(?<!\\)\$", r"\\$", "\n".join(lines))
