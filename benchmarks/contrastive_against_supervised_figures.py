"""Draw the lines of `contrastive_against_supervised.py`: attacked accuracy, and certified."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contrastive_against_supervised import CANDIDATES, LOSSES
from benchmarks.judge_robustness import BUDGETS, survived
from robustcl.core.choices import CertifiedNorm
from robustcl.report.figures import STYLE

REACH: dict[CertifiedNorm, float] = {
    "linf": 1 / 255,
    "l2": 0.1,
}  # of certified curves, in pixel units
Line = dict[str, Any]


def right(
    runs: dict[int, Line], head: str, attack: str, norm: CertifiedNorm, number: int
) -> np.ndarray:
    """Read which images are right.

    Args:
        runs: Lines by seed.
        head: A key of a line's heads.
        attack: 'pgd' or 'autoattack'.
        norm: Of the budget.
        number: 0 without an attack, else the budget's number from 1 on.

    Returns:
        (S, N) zeros and ones.
    """
    rows = []
    for seed in sorted(runs):
        found = runs[seed]["heads"][head]
        text = found["pgd"][norm] if attack == "pgd" else found[f"autoattack_{norm}"]
        rows.append(survived(text, number))
    return np.asarray(rows, dtype=float)


def radii(runs: dict[int, Line], head: str, norm: CertifiedNorm) -> np.ndarray:
    """Read certified radii, 0 where an image is wrong.

    Args:
        runs: Lines by seed.
        head: A key of a line's heads.
        norm: Of the radii.

    Returns:
        (S, N) radii.
    """
    return np.asarray([runs[s]["heads"][head][f"certified_{norm}"] for s in sorted(runs)])


def draw(arms: dict[tuple[str, str], dict[int, Line]], place: Path, what: str) -> None:
    """Draw accuracy against the budget, one panel per norm and robust training.

    Args:
        arms: Lines by loss and kind, then by seed.
        place: The picture.
        what: 'attacked' (dashed) or 'certified' (solid).
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    kinds = [kind for kind in CANDIDATES if any(key[1] == kind for key in arms)]
    with plt.style.context(STYLE):
        figure, panels = plt.subplots(
            2, len(kinds), figsize=(3.2 * len(kinds) + 1.0, 5.0), sharey=True, squeeze=False,
            sharex="row",
        )  # fmt: skip
        for row, norm in enumerate(BUDGETS):
            for column, kind in enumerate(kinds):
                panel = panels[row][column]
                for number, loss in enumerate(LOSSES):
                    runs = arms.get((loss, kind))
                    if not runs:
                        continue
                    heads = ["prototype"]
                    if (loss, kind) == ("cross_entropy", "plain"):
                        heads.append("own")
                    for head in heads:
                        name = f"{loss}, own layer" if head == "own" else loss
                        color = "0.5" if head == "own" else f"C{number}"
                        eps, values = curve(runs, head, norm, what)
                        line = "--" if what == "attacked" else "-"
                        mark = "o" if what == "attacked" else None
                        panel.plot(eps, values, line, color=color, label=name, marker=mark,
                                   markersize=3)  # fmt: skip
                panel.set(title=kind if row == 0 else None, xlim=(0, None))
                panel.set_xlabel(f"{'L2' if norm == 'l2' else 'Linf'} radius, pixel units")
            panels[row][0].set_ylabel(f"{what} accuracy")
        panels[0][0].set_ylim(0, None)  # shared, and fitted to what is drawn by now
        lines = panels[0][0].get_lines()  # the plain panel has them all
        panels[0][-1].legend(handles=lines, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(place, bbox_inches="tight")


def curve(
    runs: dict[int, Line], head: str, norm: CertifiedNorm, what: str
) -> tuple[list[float], list[float]]:
    """Return a curve, averaged over seeds.

    Args:
        runs: Lines by seed.
        head: A key of a line's heads.
        norm: Of the radii.
        what: 'attacked' or 'certified'.

    Returns:
        Radii and accuracies.
    """
    if what == "attacked":
        eps = [0.0, *BUDGETS[norm]]
        return eps, [
            float(right(runs, head, "autoattack", norm, n).mean()) for n in range(len(eps))
        ]
    proved = radii(runs, head, norm)
    clean = float(right(runs, head, "autoattack", norm, 0).mean())
    grid = np.linspace(0.0, REACH[norm], 60)
    return grid.tolist(), [clean, *(float((proved >= radius).mean()) for radius in grid[1:])]
