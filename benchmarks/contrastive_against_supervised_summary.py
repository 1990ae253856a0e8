"""Turn the lines of `contrastive_against_supervised.py` into tables, a verdict, and figures.

Every loss is compared with cross-entropy under the same robust training, image by image and seed by
seed. Half-widths of 95 % intervals join the two sources of chance: the t-interval over seeds of the
mean over images, and the normal interval over images of the mean over seeds, as the root of the sum
of their squares (seeds' noise is in both, so the interval is rather too wide than too narrow).

The rule, fixed before the study ran: the question is asked of the plain arms, about
accuracy under screened AutoAttack at the smallest budget of each norm, against cross-entropy with
the same prototype head, and against cross-entropy with its own class layer. A loss is 'yes' where
both norms' intervals lie above 0, 'no' where both lie below, else 'undecided at this size'; the
whole is 'yes' or 'no' where all losses are, else 'undecided at this size'.

Run: python benchmarks/contrastive_against_supervised_summary.py FILE.jsonl [--figures DIR]
Writes FILE.summary.json and FILE.md beside the lines.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contrastive_against_supervised import CANDIDATES, LOSSES, lines_of
from benchmarks.contrastive_against_supervised_figures import Line, draw, radii, right
from benchmarks.judge_robustness import BUDGETS
from robustcl.core.choices import CertifiedNorm

SMALLEST: tuple[tuple[CertifiedNorm, int], ...] = (
    ("linf", 1),
    ("l2", 1),
)  # norm, number of the budget
CERTIFIED_AT = {"linf": 0.25 / 255, "l2": 0.02}
Key = tuple[str, str, str]  # loss, kind, head
BASES = {"prototype": "the same head", "own": "its own class layer"}


@dataclass(frozen=True, eq=False)
class Interval:
    """Hold a mean with the half-width of its 95 % interval.

    Args:
        mean: Of all seeds and images.
        half: Half-width; NaN for one seed.
    """

    mean: float
    half: float

    def __str__(self) -> str:
        """Return both in percent, or points; the mean alone where one seed gives no interval."""
        if np.isnan(self.half):
            return f"{100 * self.mean:.1f}"
        return f"{100 * self.mean:.1f} ± {100 * self.half:.1f}"

    @property
    def verdict(self) -> str:
        """Yes, no, or undecided at this size."""
        if not abs(self.mean) > self.half:
            return "undecided at this size"
        return "yes" if self.mean > 0 else "no, the contrary"


def interval(table: np.ndarray) -> Interval:
    """Average over seeds and images.

    Args:
        table: (S, N) numbers, one row per seed, images in the same order.

    Returns:
        The mean and its interval.
    """
    seeds, images = table.shape
    by_seed, by_image = table.mean(axis=1), table.mean(axis=0)
    if seeds < 2:
        return Interval(float(table.mean()), float("nan"))
    of_seeds = stats.t.ppf(0.975, seeds - 1) * by_seed.std(ddof=1) / seeds**0.5
    of_images = 1.96 * by_image.std(ddof=1) / images**0.5
    return Interval(float(table.mean()), float(np.hypot(of_seeds, of_images)))


def arm_summary(runs: dict[int, Line], head: str) -> dict[str, Any]:
    """Summarize one arm with one head.

    Args:
        runs: Lines by seed.
        head: A key of a line's heads.

    Returns:
        Intervals by the name of the number, and plain numbers.
    """
    found: dict[str, Any] = {
        "seeds": sorted(runs),
        "clean": interval(right(runs, head, "pgd", "l2", 0)),
    }
    first = next(iter(runs.values()))["heads"][head]
    for norm, budgets in BUDGETS.items():
        for number, eps in enumerate(budgets, start=1):
            name = f"{norm} {_eps(norm, eps)}"
            found[f"pgd {name}"] = interval(right(runs, head, "pgd", norm, number))
            if f"autoattack_{norm}" in first:
                table = right(runs, head, "autoattack", norm, number)
                found[f"autoattack {name}"] = interval(table)
        if f"certified_{norm}" in first:
            proved = radii(runs, head, norm)
            found[f"certified {norm}"] = interval((proved >= CERTIFIED_AT[norm]).astype(float))
            found[f"mean radius {norm}"] = float(proved.mean())
    found["training_cpu_seconds"] = statistics.fmean(
        run["training_cpu_seconds"] for run in runs.values()
    )
    return found


def against(
    runs: dict[int, Line], base: dict[int, Line], base_head: str, attack: str
) -> dict[str, Interval]:
    """Subtract cross-entropy, paired by seed and image.

    Args:
        runs: Of a loss with a prototype head, by seed.
        base: Of cross-entropy under the same robust training.
        base_head: Its head.
        attack: 'pgd' or 'autoattack'.

    Returns:
        Differences by norm and budget.
    """
    both = sorted({*runs} & {*base})
    mine, theirs = ({seed: part[seed] for seed in both} for part in (runs, base))
    found = {}
    for norm, budgets in BUDGETS.items():
        for number, eps in enumerate(budgets, start=1):
            gain = right(mine, "prototype", attack, norm, number) - right(
                theirs, base_head, attack, norm, number
            )
            found[f"{norm} {_eps(norm, eps)}"] = interval(gain)
    return found


def verdicts(arms: dict[tuple[str, str], dict[int, Line]], size: str) -> list[str]:
    """Write one sentence per loss and head of cross-entropy, and one on the whole.

    Args:
        arms: Lines by loss and kind, then by seed.
        size: Words for the size of the study.

    Returns:
        The sentences, the one on the whole first.
    """
    smallest = [f"{norm} {_eps(norm, BUDGETS[norm][number - 1])}" for norm, number in SMALLEST]
    sentences, found = [], []
    for kind in CANDIDATES:
        for loss in LOSSES:
            base = arms.get(("cross_entropy", kind), {})
            if loss == "cross_entropy" or not base or (loss, kind) not in arms:
                continue
            for head, words in BASES.items():
                if kind != "plain" and head == "own":
                    continue
                if len({*arms[loss, kind]} & {*base}) < 2:
                    continue  # no interval
                gains = against(arms[loss, kind], base, head, "autoattack")
                answers = {gains[name].verdict for name in smallest}
                answer = answers.pop() if len(answers) == 1 else "undecided at this size"
                if kind == "plain":
                    found.append(answer)
                told = ", ".join(f"{gains[name]} at {name}" for name in smallest)
                wider = against(arms[loss, kind], base, head, "pgd")
                told += "; PGD " + ", ".join(f"{wider[name]} at {name}" for name in smallest)
                sentences.append(
                    f"{loss} {kind}, more robust than cross_entropy {kind} with {words}: {answer} "
                    f"(points under AutoAttack {told})."
                )
    overall = found[0] if len(set(found)) == 1 else "undecided at this size"
    return [f"{size}: {overall}.", *sentences]


def effects(arms: dict[tuple[str, str], dict[int, Line]]) -> list[str]:
    """Write one sentence per loss and robust training: what it changes against plain training.

    Args:
        arms: Lines by loss and kind, then by seed.

    Returns:
        The sentences.
    """
    sentences = []
    for (loss, kind), runs in arms.items():
        plain = arms.get((loss, "plain"), {})
        both = sorted({*runs} & {*plain})
        if kind == "plain" or len(both) < 2:
            continue
        gains = against(runs, plain, "prototype", "pgd")
        mine, theirs = ({seed: part[seed] for seed in both} for part in (runs, plain))
        clean, proved = (
            interval(after - before)
            for after, before in (
                (
                    right(mine, "prototype", "pgd", "l2", 0),
                    right(theirs, "prototype", "pgd", "l2", 0),
                ),
                (radii(mine, "prototype", "l2"), radii(theirs, "prototype", "l2")),
            )
        )
        told = ", ".join(f"{gain} at {name}" for name, gain in gains.items())
        sentences.append(
            f"{loss} {kind} against plain, {len(both)} seeds: clean {clean} points, PGD {told}; "
            f"mean certified L2 radius {proved.mean:+.4f} ± {proved.half:.4f}."
        )
    return sentences


def markdown(table: dict[Key, dict[str, Any]]) -> str:
    """Write the table of all arms.

    Args:
        table: From `arm_summary`.

    Returns:
        Markdown.
    """
    smallest = [f"{norm} {_eps(norm, BUDGETS[norm][number - 1])}" for norm, number in SMALLEST]
    all_budgets = [f"{n} {_eps(n, eps)}" for n, budgets in BUDGETS.items() for eps in budgets]
    names = ["clean", *(f"pgd {name}" for name in smallest)]
    names += [*(f"autoattack {name}" for name in all_budgets)]
    proved = {f"certified {n}": f"certified {n} {_eps(n, eps)}" for n, eps in CERTIFIED_AT.items()}
    titles = ["loss", "training", "head", "seeds", *names, *proved.values()]
    titles += ["mean certified l2 radius", "training, processor s"]
    rows = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for (loss, kind, head), row in table.items():
        cells = [str(len(row["seeds"]))]
        cells += [str(row[name]) if name in row else "–" for name in (*names, *proved)]
        cells.append(f"{row['mean radius l2']:.4f}" if "mean radius l2" in row else "–")
        cells.append(f"{row['training_cpu_seconds']:.0f}")
        rows.append("| " + " | ".join([loss, kind, head, *cells]) + " |")
    return "\n".join(rows) + "\n"


def _eps(norm: str, eps: float) -> str:
    return f"{round(255 * eps, 2):g}/255" if norm == "linf" else f"{eps:g}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lines", type=Path)
    parser.add_argument("--figures", type=Path, help="folder of attacked.png and certified.png")
    options = parser.parse_args()
    arms: dict[tuple[str, str], dict[int, Line]] = defaultdict(dict)
    lines = lines_of(options.lines)
    for line in lines:
        arms[line["loss"], line["kind"]][line["seed"]] = line
    order = [(loss, kind) for kind in CANDIDATES for loss in LOSSES if (loss, kind) in arms]
    table = {
        (loss, kind, head): arm_summary(arms[loss, kind], head)
        for loss, kind in order
        for head in next(iter(arms[loss, kind].values()))["heads"]
    }
    first = lines[0]
    seeds = sorted({line["seed"] for line in lines})
    size = (
        f"{first['images']} images, {first['recipe']['epochs']} epochs, {len(seeds)} seeds, "
        f"AutoAttack on {first['autoattack_images']} and PGD on {first['test_images']} test images"
    )
    sentences = [*verdicts(arms, size), *effects(arms)]
    robust = {
        kind: sorted({ln["robust"] for ln in lines if ln["kind"] == kind}) for _, kind in order
    }
    rows = [
        {"arm": key, **{k: vars(v) if isinstance(v, Interval) else v for k, v in row.items()}}
        for key, row in table.items()
    ]
    found = {"size": size, "robust": robust, "arms": rows, "verdicts": sentences}
    options.lines.with_suffix(".summary.json").write_text(json.dumps(found, indent=1) + "\n")
    options.lines.with_suffix(".md").write_text(markdown(table))
    print(markdown(table), *sentences, sep="\n")
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        for what in ("attacked", "certified"):
            draw(arms, options.figures / f"{what}.png", what)


if __name__ == "__main__":
    main()
