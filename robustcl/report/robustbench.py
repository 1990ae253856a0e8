"""Write a run as RobustBench writes a model: one flat JSON object, rates in percent as text."""

from typing import Any

from robustcl.core.numbers import norm_name
from robustcl.records.json_file import write_json
from robustcl.records.reading import Run
from robustcl.records.summary import Summary

REFERENCE = "autoattack"


def robustbench_entry(run: Run, summary: Summary) -> dict[str, Any]:
    """State a run in the keys of RobustBench, and what those do not hold in keys of its own.

    All rates are at the smallest eps of the run. `autoattack_acc` is null unless the reference
    AutoAttack was run; `attacked_acc` is the worst case over all attacks of the run.

    Args:
        run: The run.
        summary: Of the run.

    Returns:
        Plain values.

    Reference:
        Croce et al., RobustBench: a standardized adversarial robustness benchmark, NeurIPS 2021,
        data sets and benchmarks.
    """
    config = run.manifest.get("config", {})
    reference = [e for name, e in summary.by_attack.items() if name.split(":")[0] == REFERENCE]
    lowest = min((entry["at_headline"] for entry in reference), default=None)
    radius = summary.headline_radius
    whole = round(255 * radius)
    is_step = summary.norm == "linf" and whole > 0 and abs(255 * radius - whole) < 1e-6 * whole
    return {
        "name": config.get("checkpoint_hash") or run.folder.name,
        "dataset": str(config.get("data", "")),
        "threat_model": norm_name(summary.norm).replace("∞", "inf"),
        "eps": f"{whole}/255" if is_step else f"{radius:.6g}",
        "clean_acc": _percent(summary.clean_accuracy),
        "reported": None,
        "autoattack_acc": _percent(lowest if summary.labeled else None),
        "attacked_acc": _percent(summary.headline_attacked if summary.labeled else None),
        "certified_acc": _percent(summary.headline_certified if summary.labeled else None),
        "certified_by": sorted(
            name
            for name, entry in summary.by_method.items()
            if entry["guarantee"] == "deterministic" and entry["subject"] == "model"
        ),
        "attacks": sorted(summary.by_attack),
        "images": summary.n,
        **_fewer("attacked_images", summary.attacked_n, summary.n),
        **_fewer("certified_images", summary.certified_n, summary.n),
        "number_forward_passes": 1,
    }


def _fewer(name: str, count: int, whole: int) -> dict[str, int]:
    # Of a run within minutes, on how many images its methods have ended.
    return {name: count} if count < whole else {}


def write_robustbench(run: Run, summary: Summary) -> None:
    """Write robustbench.json into a run folder.

    Args:
        run: The run.
        summary: Of the run.
    """
    write_json(run.folder / "robustbench.json", robustbench_entry(run, summary))


def _percent(rate: float | None) -> str | None:
    return None if rate is None else f"{100 * rate:.2f}"
