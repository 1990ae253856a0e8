"""Follow attacks from evaluation to evaluation, and draw how far they had come."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from robustcl.core.numbers import norm_name, percent, radius_text
from robustcl.records.arrays import load_arrays
from robustcl.records.images import model_attacks, run_norm
from robustcl.records.reading import Run
from robustcl.records.writing import slug

FLAT = 0.005  # rule 15: twice the work must change the success by less than half a point
FEWEST = 5  # images of which a curve is drawn
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, eq=False)
class Convergence:
    """Hold how far an attack within one budget had come.

    Args:
        attack: The attack.
        eps: The budget.
        attacked: Images that were attacked within it.
        evaluations: (T,) numbers of evaluations of the margin, up to where the last image ended.
        quartiles: (3, T) over the images, of the highest margin so far, positive where the
            adversary has won; of an attack that looks for the nearest point, of the smallest
            winning norm so far over the last one.
        nearest: Whether the attack looks for the nearest point.
        gains: By eps, the share of images that only the second half of each image's evaluations
            won within it.
    """

    attack: str
    eps: float
    attacked: int
    evaluations: np.ndarray
    quartiles: np.ndarray
    nearest: bool
    gains: dict[float, float]


def convergences(run: Run) -> list[Convergence]:
    """Read the curves of every attack and budget of a run.

    Args:
        run: The run.

    Returns:
        One entry per attack and budget at which images were attacked; none of attacks that do not
        call the margin.
    """
    listed = run.manifest.get("attacks") or ()
    nearest = {entry["name"] for entry in listed if entry.get("minimum_norm")}
    found = []
    for attack in sorted(map(str, model_attacks(run)["method"].unique())):
        name = f"curves-{slug(attack)}"
        shared = ("eps", "evaluations", "attack")
        stored = load_arrays(run.folder, name, shared=shared, lenient=True)
        for place in range(len(stored.get("eps", ()))):
            if (stored["counts"][:, place] > 0).any():
                found.append(_one(attack, stored, place, nearest=attack in nearest))
    return found


def _one(attack: str, stored: dict[str, np.ndarray], place: int, *, nearest: bool) -> Convergence:
    counts, norms = stored["counts"][:, place], stored["norms"][:, place]
    evaluations, rows = stored["evaluations"], counts > 0
    half = np.searchsorted(evaluations, counts // 2, side="right") - 1
    before = np.where(half >= 0, norms[np.arange(len(norms)), half.clip(min=0)], np.inf)
    budgets = stored["eps"] if nearest else stored["eps"][place : place + 1]
    gains = {
        float(eps): float(((norms[:, -1] <= eps * (1 + 1e-6)) & (before > eps)).mean())
        for eps in budgets
    }
    last = int(np.searchsorted(evaluations, counts.max())) + 1
    values = stored["margins"][rows, place]
    if nearest:
        won = rows & np.isfinite(norms[:, -1])
        values = norms[won] / norms[won, -1:]
    values = np.where(np.isfinite(values), values, np.inf if nearest else -np.inf)
    quartiles = np.full((3, last), np.nan)
    if len(values):
        quartiles = np.quantile(values[:, :last], QUARTILES, axis=0, method="nearest")
    quartiles = np.where(np.isfinite(quartiles), quartiles, np.nan)
    return Convergence(
        attack, float(stored["eps"][place]), int(rows.sum()), evaluations[:last], quartiles,
        nearest, gains,
    )  # fmt: skip


def convergence_warnings(run: Run) -> list[str]:
    """Say where more of the same might find more (rule 15).

    Args:
        run: The run.

    Returns:
        A sentence per attack whose success has not flattened, and per attack that missed at a
        budget what was found within it later on.
    """
    found, norm = [], run_norm(run)
    curves, table = convergences(run), model_attacks(run)
    for attack in sorted(map(str, table["method"].unique())):
        own = [one.gains.items() for one in curves if one.attack == attack]
        rising = [(eps, gain) for gains in own for eps, gain in gains if gain >= FLAT]
        if rising:
            places = ", ".join(
                f"{100 * gain:.1f} points at {norm_name(norm)} {radius_text(eps, norm)}"
                for eps, gain in rising
            )
            found.append(
                f"{attack} has not flattened: the second half of its evaluations still raised its "
                f"success by {places}. More steps or restarts may find more."
            )
        rows = table[table["method"] == attack]
        missed = int((rows["deployed"] < rows["failed"].astype(float) * (1.0 - 1e-6)).sum())
        if missed >= FLAT * len(rows):
            found.append(
                f"{attack} found nothing at a budget within which its later stages did on {missed} "
                f"of {len(rows)} images ({percent(missed / len(rows))}): its success alone does "
                "not rise monotonically with the budget. The curves count what was found later."
            )
    return found


def convergence(
    ax: Axes, *, curves: Sequence[Convergence], labels: Sequence[str], value: str, level: float
) -> None:
    """Draw medians with quartiles against evaluations.

    Args:
        ax: Where to draw.
        curves: What is drawn.
        labels: A label each.
        value: What the curves are.
        level: Where they are compared with, drawn as a thin line.
    """
    ax.axhline(level, color="0.5", linewidth=0.9, zorder=1)
    for number, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        color, x = f"C{number % 10}", curve.evaluations
        low, middle, high = curve.quartiles
        ax.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
        style = ("--", "-.", ":")[number // 10 % 3]
        ax.plot(x, middle, color=color, linewidth=1.5, linestyle=style, label=label)
        ax.plot(x[-1], middle[-1], color=color, marker="|", markersize=7)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda found, _: f"{found:g}")
    ax.set_xlabel("evaluations of the margin (iterations of all restarts)")
    ax.set_ylabel(value)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
