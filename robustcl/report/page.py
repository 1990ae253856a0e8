"""Write report.html: one file that needs no network, every number from the records."""

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from robustcl.core.numbers import interval_text, norm_name, percent, radius_text, seconds_text
from robustcl.core.output_folder import OutputFolder
from robustcl.records.beaten import violation_file
from robustcl.records.json_file import write_json
from robustcl.records.reading import Run, load_run
from robustcl.records.summary import Summary, summarize
from robustcl.report.convergence import convergence_warnings
from robustcl.report.escape import page_text
from robustcl.report.figures import draw, drawings
from robustcl.report.flags import flagged_images, flags, flags_of_model
from robustcl.report.headline import headline, ratio_text
from robustcl.report.robustbench import write_robustbench
from robustcl.report.tables import RADIUS_UNITS, WHOLE, budget_table, tables, write_tables

VECTOR = ("sandwich",)


def write_report(folder: Path) -> Path:
    """Rebuild the report of a run folder: report.html, summary.json, figures/, tables/ and more.

    robustbench.json states the run in the keys of RobustBench.

    Args:
        folder: The run folder, as `load_run` reads it; a run that is not complete is reported
            with a flag.

    Returns:
        The path of report.html.
    """
    run = load_run(folder)
    return write_run_page(run, summarize(run))


def write_run_page(run: Run, summary: Summary) -> Path:
    """Write the report of a run that is in memory, as `write_report` does.

    Args:
        run: The run.
        summary: Of the run.

    Returns:
        The path of report.html.
    """
    OutputFolder(run.folder).check_start()
    write_json(run.folder / "summary.json", summary.to_dict())
    write_robustbench(run, summary)
    write_tables(run.folder, tables(run, summary))
    pictures = _write_figures(run, summary)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=page_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.jinja").render(
        **page_data(run, summary), pictures=pictures
    )
    OutputFolder(run.folder).write_text("report.html", page)
    return run.folder / "report.html"


def page_data(run: Run, summary: Summary) -> dict[str, Any]:
    """Spell everything that the page says.

    Args:
        run: The run.
        summary: Of the run.

    Returns:
        Plain text and numbers by name, as the template takes them.
    """
    norm = summary.norm
    return {
        "title": _title(run),
        "headline": headline(summary),
        "tiles": _tiles(summary),
        "violations": [
            {
                **violation,
                "certified": f"{violation['certified']:.6g}",
                "attacked": f"{violation['attacked']:.6g}",
                "file": _reproducer(run, violation),
            }
            for violation in summary.violations
        ],
        "reproducers": any(_reproducer(run, one) for one in summary.violations),
        "balls": _balls(summary),
        "beaten": len({violation["index"] for violation in summary.violations}),
        "pairs": f"{summary.pairs:,}",
        "flags": flags(run, summary),
        "model_flags": flags_of_model(run),
        "flagged": flagged_images(run, summary),
        "methods": _methods(run, summary),
        "attacks": _attacks(run, summary),
        "estimates": _estimates(summary),
        "doubts": convergence_warnings(run),
        "budget": _budget(run),
        "norm": norm_name(norm),
        "radius": radius_text(summary.headline_radius, norm),
        "n": f"{summary.n:,}",
        "prefixes": bool(run.manifest.get("prefixes")),
        "labeled": summary.labeled,
        "accuracy": "accuracy" if summary.labeled else "share of kept predictions",
        "guarantees": sorted({entry["guarantee"] for entry in summary.by_method.values()}),
        "reproduce": _reproduce(run, summary),
        "config": json.dumps(run.manifest.get("config", {}), indent=1, sort_keys=True, default=str),
    }


def _reproducer(run: Run, violation: dict[str, Any]) -> str:
    name = violation_file(violation)
    return name if (run.folder / name).is_file() else ""


def _balls(summary: Summary) -> dict[str, str] | None:
    found = summary.certified_balls
    if not found or not found["n"]:
        return None
    return {
        "n": f"{found['n']:,}",
        "gradients": f"{found['gradients']:,}",
        "seconds": seconds_text(found["seconds"]),
    }


def _title(run: Run) -> str:
    config = run.manifest.get("config", {})
    data = str(config.get("data") or "")
    return f"Robustness on {data}" if data else "Robustness of a model"


def _tiles(summary: Summary) -> list[dict[str, str]]:
    norm = summary.norm
    near = f"{norm_name(norm)} {radius_text(summary.headline_radius, norm)}"
    median = radius_text(summary.median_attacked_radius, norm, largest_eps=summary.largest_eps)
    clean = {
        "name": "clean accuracy",
        "value": percent(summary.clean_accuracy),
        "note": interval_text(summary.interval95) or "no labels",
    }
    return [
        clean,
        {
            "name": f"certified at {near}",
            "value": percent(summary.headline_certified),
            "note": _interval(summary.headline_interval95, summary.certified_n, summary)
            or _of_smoothed(summary)
            or "no deterministic certificate",
        },
        {
            "name": f"left by attacks at {near}",
            "value": percent(summary.headline_attacked),
            "note": _interval(summary.attacked_interval95, summary.attacked_n, summary)
            if summary.by_attack
            else "no attack",
        },
        {
            "name": f"median radius ({norm_name(norm)})",
            "value": radius_text(summary.median_certified_radius, norm),
            "note": f"certified; attacked: {median}",
        },
    ]


def _of_smoothed(summary: Summary) -> str:
    # What is certified about another subject, where nothing is about the model itself.
    rows = [row for row in summary.by_method.values() if row["guarantee"] == "probabilistic"]
    if not rows:
        return ""
    best = max(rows, key=lambda row: row["at_headline"])
    return f"the smoothed model: {percent(best['at_headline'])} of {best['n']:,} images"


def _interval(interval: tuple[float, float] | None, count: int, summary: Summary) -> str:
    # With the number of images where a method has ended on fewer than all.
    text = interval_text(interval)
    return f"{text} of {count:,} images" if text and count < summary.n else text


def _methods(run: Run, summary: Summary) -> list[dict[str, Any]]:
    said = {entry.get("name"): entry for entry in run.manifest.get("claims") or ()}
    total = _all_seconds(summary)
    return [
        {
            "name": name,
            "best": name == summary.best_method,
            "norm": norm_name(summary.norm),
            "guarantee": entry["guarantee"],
            "subject": entry["subject"],
            "accuracy": percent(entry["accuracy"]),
            "images": f"{entry['n']:,}" if entry["n"] < summary.n else "",
            "abstained": entry["abstained"],
            "certified": percent(entry["at_headline"]),
            "median": radius_text(entry["median"], summary.norm),
            "seconds": seconds_text(entry["seconds"]),
            "share": round(100 * entry["seconds"] / total),
            "claim": said.get(name, {}).get("claim", ""),
            "reference": said.get(name, {}).get("reference", ""),
        }
        for name, entry in summary.by_method.items()
    ]


def _attacks(run: Run, summary: Summary) -> list[dict[str, Any]]:
    said = {entry.get("name"): entry for entry in run.manifest.get("attacks") or ()}
    total = _all_seconds(summary)
    return [
        {
            "name": name,
            "note": entry["note"],
            "parameters": ", ".join(
                f"{key}={value}"
                for key, value in (said.get(name, {}).get("parameters") or {}).items()
            ),
            "subject": entry["subject"],
            "n": f"{entry['n']:,}",
            "found": f"{entry['found']:,}",
            "accuracy": percent(entry["at_headline"]),
            "median": radius_text(entry["median"], summary.norm, largest_eps=summary.largest_eps),
            "gradients": f"{entry['gradients']:,}",
            "seconds": seconds_text(entry["seconds"]),
            "share": round(100 * entry["seconds"] / total),
        }
        for name, entry in summary.by_attack.items()
    ]


def _estimates(summary: Summary) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "n": f"{entry['n']:,}",
            "exceeds": f"{entry['exceeds']:,}",
            "ratio": ratio_text(entry["largest_ratio"]),
        }
        for name, entry in summary.estimates.items()
        if entry["n"]
    ]


def _budget(run: Run) -> list[dict[str, Any]]:
    rows = []
    for row in budget_table(run).to_dict("records"):
        whole = row["stage"] == WHOLE
        counts = {
            key: "–" if row[key] != row[key] else f"{int(row[key]):,}" for key in RADIUS_UNITS[:2]
        }
        seconds = row["seconds"]
        rows.append(
            {**row, **counts, "whole": whole, "stage": "" if whole else row["stage"]}
            | {"images": f"{row['images']:,}"}
            | {"seconds": "–" if seconds != seconds else seconds_text(seconds)}
        )
    return rows


def _all_seconds(summary: Summary) -> float:
    entries = (*summary.by_method.values(), *summary.by_attack.values())
    return max(sum(entry["seconds"] for entry in entries), 1e-12)


def _reproduce(run: Run, summary: Summary) -> list[tuple[str, str]]:
    manifest = run.manifest
    config = manifest.get("config", {})
    shape = " × ".join(str(size) for size in manifest.get("image_shape") or ())
    return [
        ("command", str(manifest.get("command") or "–")),
        ("config hash", str(manifest.get("config_hash", "–"))),
        ("seed", str(config.get("seed", "–"))),
        ("eps", ", ".join(radius_text(float(e), summary.norm) for e in config.get("eps") or ())),
        ("images", f"{summary.n:,} of {manifest.get('num_examples', '–')}, shape {shape or '–'}"),
        ("device", str(manifest.get("device", "–"))),
        ("time", seconds_text(summary.seconds)),
        ("created", str(manifest.get("created", "–"))),
        *((f"hash of {key}", str(value)) for key, value in (manifest.get("hashes") or {}).items()),
        (
            "versions",
            ", ".join(f"{key} {value}" for key, value in (manifest.get("versions") or {}).items()),
        ),
    ]


def _write_figures(run: Run, summary: Summary) -> dict[str, str]:
    # Write figures/ and return the pictures of the page as data addresses.
    output, pictures = OutputFolder(run.folder), dict[str, str]()
    files = dict[str, bytes]()
    for drawing in drawings(run, summary):
        content, kind = draw(drawing, form="png"), "image/png"
        files[f"figures/{drawing.name}.png"] = content
        if drawing.name in VECTOR:
            content, kind = draw(drawing, form="svg"), "image/svg+xml"
            files[f"figures/{drawing.name}.svg"] = content
        pictures[drawing.name] = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    output.claim(*files)
    for name, content in files.items():
        output.write_bytes(name, content)
    old = (name for name in output.listed() if name.startswith("figures/"))
    output.remove(name for name in old if name not in files)
    return pictures
