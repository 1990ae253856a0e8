"""Write the report of a multi-view study: every number from study.json."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from robustcl.core.numbers import norm_name, percent, radius_text
from robustcl.core.output_folder import OutputFolder
from robustcl.records.study_file import read_study
from robustcl.report.escape import page_text
from robustcl.report.figures import draw
from robustcl.report.plots import Drawing, count_curve, gains, reliability, risk_curve

SINGLE_VIEW = "single view"
_METRICS = (
    ("accuracy", "accuracy", 100.0),
    ("nll", "NLL", 1.0),
    ("brier", "Brier", 1.0),
    ("smooth_ece", "smooth ECE (%)", 100.0),
    ("debiased", "debiased error (%)", 100.0),
    ("ece15", "ECE-15 (%)", 100.0),
    ("ece15_floor95", "its null floor, 95 % (%)", 100.0),
    ("classwise", "class-wise ECE (%)", 100.0),
    ("aurc", "AURC (%)", 100.0),
    ("augrc", "AUGRC (%)", 100.0),
    ("risk80", "risk at 80 % (%)", 100.0),
    ("risk90", "risk at 90 % (%)", 100.0),
    ("risk95", "risk at 95 % (%)", 100.0),
)


def write_study_report(folder: Path) -> Path:
    """Rebuild report.html and figures/ of a multi-view study.

    Args:
        folder: The folder, with manifest.json and study.json.

    Returns:
        The path of report.html.
    """
    study, manifest, notes = read_study(folder)
    OutputFolder(folder).check_start()
    places = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=page_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = places.get_template("study.html.jinja").render(
        sentences=sentences(study, manifest["config"]),
        notes=notes,
        pictures=_pictures(folder, study),
        tables=[_table(study, data) for data in ("clean", "noisy", "attacked")],
        similarity=_similarity(study),
        robust=_robust(study),
        classes=study["per_class"],
        baseline=_baseline(study),
        fresh=_fresh(study),
        manifest=manifest,
        config=json.dumps(manifest["config"], indent=1, sort_keys=True),
        title=f"Multi-view inference on {manifest['config']['data']}",
    )
    OutputFolder(folder).write_text("report.html", page)
    return folder / "report.html"


def headline_model(study: Mapping[str, Any]) -> str:
    """Name the model that the sentences are about: the first aggregate with the most views.

    Args:
        study: The content of study.json.

    Returns:
        Its name.
    """
    compared = study["comparisons"]
    return next(name for name, found in compared.items() if "adaptive_gain" in found)


def sentences(study: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Answer the three questions, each with its paired interval.

    Args:
        study: The content of study.json.
        config: Of the manifest.

    Returns:
        Three sentences: accuracy, robustness, calibration.
    """
    name = headline_model(study)
    found, models = study["comparisons"][name], study["models"]
    before, after = models[SINGLE_VIEW], models[name]
    norm = str(config["norm"])
    budget = f"{norm_name(norm)} {radius_text(float(config['eps']), norm)}"
    return [
        f"Accuracy: {_word(found['accuracy'])}. {name} ({config['views']}): "
        f"{percent(before['clean']['accuracy'])} to {percent(after['clean']['accuracy'])}, "
        f"{_points(found['accuracy'])} on {config['num_examples']} images, "
        f"{found['corrections']} corrected and {found['corruptions']} corrupted.",
        f"Robustness at {budget}: {_word(found['adaptive_gain'])} against attacks that know all "
        f"views, {percent(before['robust'])} to {percent(after['robust'])}, "
        f"{_points(found['adaptive_gain'])} on {config['num_attacked']} images; an attacker that "
        f"knows one view only would make it seem {_points(found['transfer_gain'])}.",
        f"Calibration: negative log-likelihood {_word(found['nll'], better=-1)}, by "
        f"{found['nll']['value']:+.3f} [{found['nll']['low']:+.3f}, {found['nll']['high']:+.3f}]; "
        f"calibration error of equal-mass bins {_points(found['ece'])}, temperature refitted "
        f"after aggregation.",
    ]


def _word(interval: Mapping[str, float], *, better: int = 1) -> str:
    if interval["low"] > 0 or interval["high"] < 0:
        return "better" if (interval["value"] > 0) == (better > 0) else "worse"
    return "undecided at this size"


def _points(interval: Mapping[str, float]) -> str:
    value, low, high = (100.0 * interval[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def _table(study: Mapping[str, Any], data: str) -> dict[str, Any]:
    rows = [
        {"name": name, "values": [f"{scale * model[data][key]:.3g}" for key, _, scale in _METRICS]}
        for name, model in study["models"].items()
        if data in model
    ]
    return {"data": data, "columns": [label for _, label, _ in _METRICS], "rows": rows}


def _similarity(study: Mapping[str, Any]) -> list[dict[str, str]]:
    keys = ("smooth_ece", "ece15", "aurc", "augrc")
    return [
        {"name": name, "as": label, **{key: f"{100.0 * part[key]:.3g}" for key in keys}}
        for name, model in study["models"].items()
        if "similarity" in model
        for label, part in (("softmax", model["clean"]), ("similarity", model["similarity"]))
    ]


def _robust(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "clean": percent(model["clean"]["accuracy"]),
            "transfer": percent(model["robust_by_source"][SINGLE_VIEW]),
            "own": percent(model["robust_by_source"][name]),
            "robust": percent(model["robust"]),
            "certified": percent(model.get("certified")),
            "passes": max(model["count"], 1),
        }
        for name, model in study["models"].items()
        if "robust" in model
    ]


def _baseline(study: Mapping[str, Any]) -> dict[str, str] | None:
    found = study["baseline"]
    if found is None:
        return None
    return {
        "accuracy": percent(found["clean"]["accuracy"]),
        "robust": percent(found["robust"]),
        "nll": f"{found['clean']['nll']:.3f}",
        "members": str(found["members"]),
    }


def _fresh(study: Mapping[str, Any]) -> dict[str, str] | None:
    found = study.get("fresh")  # older studies have none
    if found is None:
        return None
    return {
        "name": found["name"],
        "draws": str(found["draws"]),
        "judges": str(found["judges"]),
        "clean": percent(found["clean"]),
        "transfer": percent(found["robust_by_source"][SINGLE_VIEW]),
        "robust": percent(found["robust"]),
        "gain": _points(found["adaptive_gain"]),
        "seeming": _points(found["transfer_gain"]),
    }


def _pictures(folder: Path, study: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for drawing in _drawings(study):
        content = draw(drawing, form="png")
        OutputFolder(folder).write_bytes(f"figures/{drawing.name}.png", content)
        found[drawing.name] = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return found


def _drawings(study: Mapping[str, Any]) -> list[Drawing]:
    """Prepare every figure of a study.

    Args:
        study: The content of study.json.

    Returns:
        The figures.
    """
    attacked = {n: c for n, c in study["comparisons"].items() if "adaptive_gain" in c}
    triples = {
        key: [[c[key][part] for part in ("value", "low", "high")] for c in attacked.values()]
        for key in ("transfer_gain", "adaptive_gain")
    }
    by_aggregate: dict[str, list[list[float]]] = {}
    for name, found in study["comparisons"].items():
        model, gain = study["models"][name], found["accuracy"]
        row = [float(model["count"]), gain["value"], gain["low"], gain["high"]]
        by_aggregate.setdefault(model["aggregate"], []).append(row)
    single = float(study["models"][SINGLE_VIEW]["clean"]["accuracy"])
    curves = study["curves"]
    bins = {name: curve["reliability"] for name, curve in curves.items()}
    risks = {name: curve["risk"] for name, curve in curves.items()}
    return [
        Drawing("gains", (8.0, 1.2 + 0.6 * len(attacked)), lambda ax: gains(
            ax, labels=list(attacked), transfer=triples["transfer_gain"],
            adaptive=triples["adaptive_gain"])),
        Drawing("counts", (8.0, 3.2), lambda ax: count_curve(
            ax, single=single, models=by_aggregate)),
        Drawing("reliability", (4.8, 4.6), lambda ax: reliability(ax, models=bins)),
        Drawing("risk_coverage", (4.8, 4.6), lambda ax: risk_curve(ax, models=risks)),
    ]  # fmt: skip
