"""Set estimates of the radius against what attacks found, from records alone."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from robustcl.core.lazy import lazily
from robustcl.runs.per_image import radii, run_subject
from robustcl.runs.records import Run

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazily("pandas")

SLACK = 1e-9  # relative: a ratio that rounding alone lifts above 1 refutes nothing


def estimate_pairs(run: Run, images: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Pair each estimate of a run with the attacked radius of the same image and class.

    Args:
        run: As `load_run` reads it.
        images: From `per_image`.

    Returns:
        By method, one row per rightly classified image for which a perturbation was found:
        estimate (infinite where no class can overtake) and attacked, a finite radius > 0.
    """
    table = run.certificates
    rows = table[(table["guarantee"] == "estimate") & (table["subject"] == run_subject(run))]
    found = images["attacked"]
    against = images[images["correct"] & np.isfinite(found) & (found > 0)]
    pairs = {}
    for name, own in rows.assign(estimate=radii(rows)).groupby("method"):
        own = own.set_index("index")
        own = own[own["predicted"] == images["predicted"].reindex(own.index)]
        pairs[str(name)] = own[["estimate"]].join(against[["attacked"]], how="inner")
    return pairs


def estimates_against_attacks(run: Run, images: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Count on how many images an estimate exceeds a radius at which the class was left.

    Args:
        run: As `load_run` reads it.
        images: From `per_image`.

    Returns:
        By method: n (pairs), exceeds (of them) and largest_ratio, the largest estimate over its
        attacked radius; None without a pair.
    """
    counts = {}
    for name, pairs in estimate_pairs(run, images).items():
        ratios = pairs["estimate"] / pairs["attacked"]
        counts[name] = {
            "n": len(ratios),
            "exceeds": int((ratios > 1.0 + SLACK).sum()),
            "largest_ratio": float(ratios.max()) if len(ratios) else None,
        }
    return counts
