"""Names of others in tables and figures stay text."""

import csv
import importlib
import io
import math
from pathlib import Path

import pandas as pd
import pytest
from markupsafe import Markup
from matplotlib.axes import Axes

from robustcl.report.escape import csv_cell, latex_cell, markdown_cell, page_text
from robustcl.report.figures import draw
from robustcl.report.plots import Drawing
from robustcl.report.tables import latex, markdown, write_tables
from tests.fuzz.build_data import NOWHERE

FORMULAS = ("=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "  =1", "＝1")
FIGURE_TEXTS = ("$\\frac{", "$x$", "$", "\\$a$b$", "a\nb\x1b[31m", "\x00", NOWHERE, "$" * 9)


def test_cells_are_one_line_and_no_formula() -> None:
    for text in FORMULAS:
        assert str(csv_cell(text)).startswith(("'", "\\t", "\\r")), text
    assert csv_cell("a\nb\x1b") == "a\\nb\\x1b" and csv_cell("first_order") == "first_order"
    for number in (-1.5, -3, None, True, math.inf):
        assert csv_cell(number) is number


def test_markdown_has_no_column_tag_link_or_code() -> None:
    cell = markdown_cell(NOWHERE)
    assert cell.isprintable()
    for sign in "|<>`[]*":
        assert all(cell[k - 1] == "\\" for k in range(len(cell)) if cell[k] == sign), sign
    assert "://" not in cell and "\\x1b" in cell
    assert markdown_cell("www.a.b x@y") == r"www\.a.b x\@y"
    assert markdown_cell("smoothing:sigma=.25,n=100 first_order") == (
        "smoothing:sigma=.25,n=100 first_order"
    )


def test_latex_has_no_command() -> None:
    assert latex_cell("\\input{/etc}$&%#_^~\n") == (
        r"\textbackslash{}input\{/etc\}\$\&\%\#\_\textasciicircum{}\textasciitilde{}"
        r"\textbackslash{}n"
    )


def test_tables_are_escaped_in_every_form(tmp_path: Path) -> None:
    table = pd.DataFrame({
        "name": [NOWHERE, "=1", "plain"],
        "value": [-1.0, 0.5, float("nan")],
        "mixed": [None, -2, "-2"],
        NOWHERE: [1, 2, 3],
    })
    write_tables(tmp_path, {"x": table})
    text = (tmp_path / "tables" / "x.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text)))
    assert len(rows) == len(text.splitlines()) == 4
    assert [row[0] for row in rows[2:]] == ["'=1", "plain"] and rows[1][1] == "-1.0"
    assert [row[2] for row in rows[1:]] == ["", "-2", "'-2"]
    for form in ("csv", "md", "tex"):
        whole = (tmp_path / "tables" / f"x.{form}").read_text(encoding="utf-8")
        assert all(line.isprintable() for line in whole.splitlines()), form
        assert "\x1b" not in whole
    assert len(markdown(table).splitlines()) == 5
    assert len(latex(table).splitlines()) == 9


@pytest.mark.parametrize("form", ["png", "svg"])
def test_figures_draw_any_text(form: str) -> None:
    def drawn(ax: Axes) -> None:
        for number, text in enumerate(FIGURE_TEXTS):
            ax.plot([0, 1], [0, number], label=f"a{text}")
            ax.text(0.1, 0.1, text)
        ax.set_yticks(range(len(FIGURE_TEXTS)), list(FIGURE_TEXTS))
        ax.set_title("x" * 10_000)
        ax.set_xlabel(NOWHERE)
        ax.legend()

    content = draw(Drawing("x", (4.0, 3.0), drawn), form=form)
    assert len(content) < 10**6
    if form == "svg":
        assert b"\x1b" not in content and b"\x00" not in content


def test_pages_show_what_would_act() -> None:
    assert page_text("a\x1b\x00\u202e\ud800b\n\té\u200c") == "a\\x1b\\x00\\u202e\\ud800b\n\té\u200c"
    assert page_text(3) == 3 and page_text(Markup("<b>\x1b")) == "<b>\x1b"
    for name in ("page", "sections", "study_page"):
        module = importlib.import_module(f"robustcl.report.{name}")
        text = Path(module.__file__ or "").read_text(encoding="utf-8")
        assert text.count("Environment(") == text.count("finalize=page_text") == 1


def test_figures_of_good_text_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(ax: Axes) -> None:
        ax.plot([1, 10, 100], [1, 10, 100], label="certified (deterministic)")
        ax.set_xscale("log")
        ax.set_xlabel("radius (L∞)\nright of 1")
        ax.set_yticks([1, 50], ["a", "b"])
        ax.legend()

    drawing = Drawing("x", (4.0, 3.0), drawn)
    with_guard = draw(drawing, form="png")
    monkeypatch.setattr("robustcl.report.figures.plain_texts", lambda figure: None)
    assert draw(drawing, form="png") == with_guard
