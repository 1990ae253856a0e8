"""Summarize a run: curves, medians and violations, from its records alone.

An image is correct where the clean prediction is its label. A wrong image counts as radius 0 in
every curve, and so does one where the model or its certificate abstained; all stay in the
denominator. The certified curve holds deterministic certificates for the model itself, the best one
per image. Probabilistic certificates, and those for another subject, have curves of their own.
Estimates have none: they are set against the attacked radius, which they may exceed.
"""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from robustcl.core.lazy import lazily
from robustcl.records.beaten import violations
from robustcl.records.images import (
    ball_attacks,
    counted_radii,
    covered,
    fooled,
    is_labeled,
    model_attacks,
    per_image,
    radii,
    run_norm,
    run_subject,
    sound_certificates,
    withstands,
)
from robustcl.records.kinds import CERTIFIED_BALL
from robustcl.records.reading import Run

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazily("pandas")

GRID_POINTS = 101
FALLBACK_RADIUS = {"l2": 0.1, "linf": 2 / 255, "l1": 1.0}  # of the headline, for a run without eps
SIDES = ("certified", "attacked")
RadiusCurve = list[list[float]]


@dataclass(frozen=True, eq=False)
class Summary:
    """Hold what a run says in numbers.

    Args:
        norm: 'l2', 'linf' or 'l1', the norm of every radius here.
        n: Images, the denominator of every rate but those of runs within minutes, whose methods
            ended on fewer.
        certified_n: The first images on which every deterministic certificate has ended; of them
            are the certified rates.
        attacked_n: Likewise of attacks.
        labeled: Whether the data has labels. Where it has none, rates of correct images are rates
            of images that keep their predicted class.
        clean_accuracy: Share of correct images; None without labels.
        abstained: Images whose clean scores are not finite; they are not correct.
        interval95: Exact (Clopper-Pearson) 95 % interval of the accuracy; None without labels.
        headline_radius: The smallest eps of the run, which no result has a say in.
        headline_certified: Certified accuracy there; None without a deterministic certificate.
        headline_interval95: Its exact 95 % interval.
        headline_attacked: Accuracy after the attacks there, by the model itself; None without an
            attack.
        attacked_interval95: Its exact 95 % interval.
        attacked_without: Of the same images, the share that is right without an attack.
        violations: Every certificate that an attack beat: index, method, certified, attack,
            attacked.
        pairs: Deterministic certificates compared with a perturbation that was found.
        median_certified_radius: Over all images, best deterministic method, wrong ones 0.
        median_attacked_radius: Over all images, worst attack, confirmed in float64, wrong ones 0;
            infinite when more than half the images withstood every attack.
        largest_eps: The largest budget an attack was given.
        best_method: The deterministic method with the largest median, then mean, radius.
        certified_accuracy: [radius, accuracy] pairs.
        attacked_accuracy: [eps, accuracy] pairs, up to `largest_eps` and no further. An image that
            the model itself or its float64 copy gets wrong is not robust.
        by_method: Certificates by name: guarantee, subject, accuracy, abstained, median, at the
            headline radius, curve (empty for estimates), seconds.
        by_attack: Attacks by name: n, found, median radius in float64, accuracy at the headline
            radius, gradients, note (what was left out), seconds.
        estimates: Estimates by name, against the attacked radius of rightly classified images: n,
            exceeds (how many are larger), largest_ratio (infinite ones too; None without a pair).
        certified_balls: Attacks from the surface of certified balls: n, found, gradients,
            forwards, seconds; None without them.
        seconds: Time of the run.
    """

    norm: str
    n: int
    certified_n: int
    attacked_n: int
    labeled: bool
    clean_accuracy: float | None
    abstained: int
    interval95: tuple[float, float] | None
    headline_radius: float
    headline_certified: float | None
    headline_interval95: tuple[float, float] | None
    headline_attacked: float | None
    attacked_interval95: tuple[float, float] | None
    attacked_without: float | None
    violations: list[dict[str, Any]]
    pairs: int
    median_certified_radius: float | None
    median_attacked_radius: float | None
    largest_eps: float | None
    best_method: str | None
    certified_accuracy: RadiusCurve
    attacked_accuracy: RadiusCurve
    by_method: dict[str, dict[str, Any]]
    by_attack: dict[str, dict[str, Any]]
    estimates: dict[str, dict[str, Any]]
    certified_balls: dict[str, Any] | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON.

        Returns:
            The fields; numbers that are not finite are None. Without labels the curves are called
        certified_share and attacked_share, and the accuracies are None.
        """
        plain = {key: _finite(value) for key, value in asdict(self).items()}
        if self.labeled:
            return plain
        # A share of predictions that are kept is no accuracy, and is not called one.
        shares = {f"{side}_share": plain.pop(f"{side}_accuracy") for side in SIDES}
        for entry in plain["by_method"].values():
            entry["predicted_share"] = entry.pop("accuracy")
        return {**plain, **dict.fromkeys(f"{side}_accuracy" for side in SIDES), **shares}


def summarize(run: Run) -> Summary:
    """Summarize a run.

    Args:
        run: As `load_run` reads it.

    Returns:
        The summary.
    """
    images = per_image(run)
    sound, eps, radius = sound_certificates(run), largest_eps(run), headline_radius(run)
    grid = _grid(run, eps)
    right = images["correct"].to_numpy(dtype=bool)
    certified, attacked = covered(sound, images), covered(model_attacks(run), images)
    beaten, pairs = violations(sound, pd.concat([model_attacks(run), ball_attacks(run)]))
    return Summary(
        norm=run_norm(run),
        n=len(images),
        certified_n=len(certified),
        attacked_n=len(attacked),
        labeled=is_labeled(run),
        clean_accuracy=float(right.mean()) if is_labeled(run) else None,
        abstained=int((images["predicted"] < 0).sum()),
        interval95=interval95(int(right.sum()), len(images)) if is_labeled(run) else None,
        headline_radius=radius,
        violations=beaten,
        pairs=pairs,
        largest_eps=eps,
        best_method=_best(run, images),
        **_certified_side(certified, grid, radius, measured=len(sound) > 0),
        **_attacked_side(attacked, grid, radius, eps),
        by_method={
            str(name): _by_method(rows, covered(rows, images), grid, radius)
            for name, rows in run.certificates.groupby("method")
        },
        by_attack={
            str(name): _by_attack(rows, covered(rows, images), radius)
            for name, rows in run.attacks.groupby("method")
            if name != CERTIFIED_BALL
        },
        estimates=estimates_against_attacks(run, images),
        certified_balls=_certified_balls(run),
        seconds=float(run.manifest.get("seconds") or 0.0),
    )


def interval95(hits: int, n: int) -> tuple[float, float]:
    """Bound a rate by the exact interval of Clopper and Pearson.

    Args:
        hits: Successes.
        n: Trials.

    Returns:
        The lower and the upper end, covering with probability >= 0.95.
    """
    from scipy.stats import binomtest  # slow to import

    found = binomtest(hits, n).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def headline_radius(run: Run) -> float:
    """Choose the radius of the headline, without a look at the results.

    Args:
        run: As `load_run` reads it.

    Returns:
        The smallest positive eps of the run, or else 0.1 (L2) or 2/255 (Linf).
    """
    eps = [float(e) for e in run.manifest.get("config", {}).get("eps") or () if e > 0]
    return min(eps) if eps else FALLBACK_RADIUS.get(run_norm(run), 0.1)


def largest_eps(run: Run) -> float | None:
    """Find the largest budget an attack on the model was given.

    Args:
        run: As `load_run` reads it.

    Returns:
        The budget in pixel units, None without attacks.
    """
    budgets = [max(eps) for eps in model_attacks(run)["eps"] if len(eps)]
    return float(max(budgets)) if budgets else None


def _certified_side(
    images: pd.DataFrame, grid: list[float], radius: float, *, measured: bool
) -> dict[str, Any]:
    right = (images["correct"] & (images["certified_by"] != "")).to_numpy(dtype=bool)
    counted = images["certified"].where(right, 0.0)
    hits = int((right & (counted >= radius)).sum())
    n = len(images)
    return {
        "headline_certified": hits / n if measured else None,
        "headline_interval95": interval95(hits, n) if measured else None,
        "median_certified_radius": float(np.median(counted)) if measured else None,
        "certified_accuracy": _curve(counted, right, grid) if measured else [],
    }


def _attacked_side(
    images: pd.DataFrame, grid: list[float], radius: float, eps: float | None
) -> dict[str, Any]:
    if eps is None:
        empty = ("headline_attacked", "attacked_interval95", "attacked_without",
                 "median_attacked_radius")  # fmt: skip
        return {**dict.fromkeys(empty), "attacked_accuracy": []}
    counted = images["attacked"].where(images["correct"], 0.0)
    curve = [
        [r, float((images["correct"] & withstands(images["fooled"], r)).mean())]
        for r in grid
        if r <= eps
    ]
    return {
        "headline_attacked": dict(curve).get(radius),  # pyright: ignore[reportArgumentType]
        "attacked_interval95": interval95(
            int((images["correct"] & withstands(images["fooled"], radius)).sum()), len(images)
        ),
        "attacked_without": float(images["correct"].mean()),
        "median_attacked_radius": float(np.median(counted)),
        "attacked_accuracy": curve,
    }


def _grid(run: Run, eps: float | None) -> list[float]:
    proved = run.certificates[run.certificates["guarantee"] != "estimate"]
    ends = [
        found[np.isfinite(found)].max()
        for _, rows in proved.groupby("method")
        if len(found := radii(rows))
    ]
    wanted = [float(e) for e in run.manifest.get("config", {}).get("eps") or ()]
    wanted += [headline_radius(run), eps or 0.0]
    ends = [max(wanted), *(float(end) for end in ends if end > 0)]  # a small one is resolved too
    even = [float(f"{r:.6g}") for end in ends for r in np.linspace(0.0, end, GRID_POINTS)]
    return sorted({0.0, *even, *wanted})


def _share(counted: pd.Series, right: np.ndarray, radius: float) -> float:
    return float((right & (counted >= radius)).mean())


def _curve(counted: pd.Series, right: np.ndarray, grid: list[float]) -> RadiusCurve:
    return [[r, _share(counted, right, r)] for r in grid]


def _by_method(
    rows: pd.DataFrame, images: pd.DataFrame, grid: list[float], radius: float
) -> dict[str, Any]:
    guarantee = str(rows["guarantee"].iloc[0])
    counted = counted_radii(rows, images)
    own = rows.set_index("index").reindex(images.index)
    right = (images["correct"] & (own["predicted"] == images["label"])).to_numpy(dtype=bool)
    estimate = guarantee == "estimate"
    return {
        "guarantee": guarantee,
        "subject": str(rows["subject"].iloc[0]),
        "n": len(rows),
        "accuracy": float(right.mean()),
        "abstained": int((rows["predicted"] < 0).sum()),
        "median": float(np.median(counted)),
        "at_headline": None if estimate else _share(counted, right, radius),
        "interval95": None
        if estimate
        else interval95(int((right & (counted >= radius)).sum()), len(images)),
        "curve": [] if estimate else _curve(counted, right, grid),
        "seconds": float(rows["seconds"].sum()),
    }


def _by_attack(rows: pd.DataFrame, images: pd.DataFrame, radius: float) -> dict[str, Any]:
    own = rows.set_index("index").reindex(images.index)
    counted = own["radius"].fillna(np.inf).where(images["correct"], 0.0)
    kept = images["correct"] & withstands(fooled(own).fillna(np.inf), radius)
    return {
        "subject": str(rows["subject"].iloc[0]),
        "n": len(rows),
        "found": int(np.isfinite(fooled(rows)).sum()),
        "median": float(np.median(counted)),
        "at_headline": float(kept.mean()),
        "interval95": interval95(int(kept.sum()), len(kept)),
        "gradients": int(rows["gradients"].sum()),
        "note": "; ".join(sorted(set(rows["note"].dropna()))),
        "seconds": float(rows["seconds"].sum()),
    }


def _certified_balls(run: Run) -> dict[str, Any] | None:
    every, rows = run.attacks[run.attacks["method"] == CERTIFIED_BALL], ball_attacks(run)
    if every.empty:
        return None
    return {
        "n": len(rows),
        "found": int(np.isfinite(rows["radius"]).sum()),
        "gradients": int(every["gradients"].sum()),
        "forwards": int(every["forwards"].sum()),
        "seconds": float(every["seconds"].sum()),
    }


def _best(run: Run, images: pd.DataFrame) -> str | None:
    ranked = []
    for name, rows in sound_certificates(run).groupby("method"):
        counted = counted_radii(rows, images)
        ranked.append((float(np.median(counted)), float(counted.mean()), str(name)))
    return max(ranked)[2] if ranked else None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazily("pandas")

_SLACK = 1e-9  # relative: a ratio that rounding alone lifts above 1 refutes nothing


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
            "exceeds": int((ratios > 1.0 + _SLACK).sum()),
            "largest_ratio": float(ratios.max()) if len(ratios) else None,
        }
    return counts
