"""Hold the parts of a page that compares runs, and write the page."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from robustcl.core.numbers import norm_name, percent, radius_text
from robustcl.core.output_folder import OutputFolder
from robustcl.records.writing import file_name
from robustcl.report.escape import page_text
from robustcl.report.figures import draw
from robustcl.report.plots import Drawing
from robustcl.report.tables import write_tables

_HEADS = {
    "clean_accuracy": "clean",
    "certified_accuracy": "certified",
    "attacked_accuracy": "left by attacks",
    "median_certified_radius": "median certified",
    "median_attacked_radius": "median attacked",
    "median_radius": "median",
    "radius": "at radius",
    "gradients_per_image": "gradients per image",
    "ms_per_image": "ms per image",
    "low95": "95 % from",
    "high95": "to",
}
NUMBER = re.compile(r"[-+–∞]?\d|[–∞]$|above ")  # how the spelling of a number begins


@dataclass(frozen=True, eq=False)
class Table:
    """Hold a table: raw values for files, and how the page spells them.

    Args:
        name: Of its files.
        values: The table.
        spelled: What the page shows, further lines of a cell small; the values spelled by column
            name where None.
        links: By row, an address for the first column, or ''.
    """

    name: str
    values: pd.DataFrame
    spelled: pd.DataFrame | None = None
    links: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Section:
    """Hold a part of the page.

    Args:
        title: Its heading.
        text: What stands above.
        figures: With a caption each.
        tables: Below the figures.
        note: What stands below.
        folded: Whether the tables are shown on request.
    """

    title: str
    text: str = ""
    figures: Sequence[tuple[Drawing, str]] = ()
    tables: Sequence[Table] = ()
    note: str = ""
    folded: bool = False


@dataclass(frozen=True, eq=False)
class Page:
    """Hold a page.

    Args:
        eyebrow: The line above the title.
        title: The title.
        lead: The sentence below it.
        good: What went well, in a green box; '' for none.
        bad: What makes numbers untrustworthy.
        warnings: What a reader should know first.
        sections: The parts.
        reproduce: Names and values of the box at the end.
        config: The resolved configuration; '' for none.
        files: Tables that are written and not shown.
    """

    eyebrow: str
    title: str
    lead: str
    good: str = ""
    bad: Sequence[str] = ()
    warnings: Sequence[str] = ()
    sections: Sequence[Section] = ()
    reproduce: Sequence[tuple[str, str]] = field(default_factory=tuple)
    config: str = ""
    files: Sequence[Table] = ()


def write_page(folder: Path, page: Page) -> Path:
    """Write report.html, figures/ and tables/; nothing on the page loads from elsewhere.

    Args:
        folder: Where; made if absent.
        page: The page.

    Returns:
        The path of report.html.
    """
    OutputFolder(folder).check_start()
    found = [*(table for section in page.sections for table in section.tables), *page.files]
    write_tables(folder, {table.name: table.values for table in found})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=page_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [_section(folder, section) for section in page.sections]
    text = environment.get_template("comparison.html.jinja").render(page=page, sections=sections)
    OutputFolder(folder).write_text("report.html", text)
    return folder / "report.html"


def _section(folder: Path, section: Section) -> dict[str, Any]:
    pictures = []
    for drawing, caption in section.figures:
        content = draw(drawing, form="png")
        OutputFolder(folder).write_bytes(f"figures/{file_name(drawing.name)}.png", content)
        source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        pictures.append({"source": source, "caption": caption, "alt": caption.split(".")[0]})
    tables = [_table(table) for table in section.tables if len(table.values)]
    return {"of": section, "pictures": pictures, "tables": tables}


def _table(table: Table) -> dict[str, Any]:
    shown = spelled_out(table.values) if table.spelled is None else table.spelled
    numeric = [
        pd.api.types.is_numeric_dtype(table.values[name])
        if name in table.values
        else bool(shown[name].map(NUMBER.match).notna().all())
        for name in shown.columns
    ]
    links = list(table.links) or [""] * len(shown)
    rows = [
        {"link": link, "cells": list(zip(map(str, row), numeric, strict=True))}
        for link, row in zip(links, shown.itertuples(index=False), strict=True)
    ]
    heads = [_HEADS.get(str(name), str(name).replace("_", " ")) for name in shown.columns]
    return {"heads": list(zip(heads, numeric, strict=True)), "rows": rows}


def spelled_out(table: pd.DataFrame) -> pd.DataFrame:
    """Spell values by the names of their columns: rates in percent, radii with their norm's unit.

    Args:
        table: Raw values; `norm` says what radii are.

    Returns:
        Text; `seed` is left out where it is the same in all rows.
    """
    norms = table["norm"].tolist() if "norm" in table else ["l2"] * len(table)
    kept = [c for c in table.columns if c != "seed" or table[c].nunique() > 1]
    columns = {
        name: [_spell(str(name), value, norm) for value, norm in zip(table[name], norms,
                                                                     strict=True)]
        for name in kept
    }  # fmt: skip
    return pd.DataFrame(columns)


def _spell(name: str, value: Any, norm: str) -> str:
    if value is None or value != value:  # NaN is the one value unlike itself
        return "–"
    if name == "norm":
        return norm_name(str(value))
    # A peer or a file may say something else than a number.
    if not isinstance(value, int | float | np.number):
        return str(value)
    if name.endswith("accuracy") or name in ("low95", "high95"):
        return percent(float(value))
    if name.endswith("radius"):
        return radius_text(float(value), norm)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)
