"""Turn the lines of `label_fraction.py` into a table, verdicts on I4 to I7, and a figure.

Intervals are 95 % t-intervals over seeds, of differences to SimCLR with the same seed (paired).
The rules, fixed before the study ran: a difference is 'yes' or 'no' when its interval excludes 0,
else 'undecided at this size'. An arm matches SimCLR at the first measured epoch whose kNN accuracy
reaches SimCLR's last one of the same seed. SupCon is compared with SimCLR at SupCon's temperature
.1, the others at .5.

Run: python benchmarks/label_fraction_summary.py FILE.jsonl [--profile cpu] [--figure FILE.png]
Writes FILE.summary.json beside the lines.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BASE = ("simclr", 0.0)
OTHER_BASES = {"supcon": ("simclr tau=0.1", 0.0)}  # an arm is compared at its own temperature
Key = tuple[str, float]
Run = dict


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % t-interval.

    Args:
        values: One per seed.

    Returns:
        Mean and half-width; the latter is NaN for one value.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, float("nan")
    error = statistics.stdev(values) / len(values) ** 0.5
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * error


def curve(run: Run, name: str = "knn_test") -> list[tuple[int, float, float]]:
    """Return epoch, CPU seconds and value wherever it was measured.

    Args:
        run: One line.
        name: The number.

    Returns:
        In the order of epochs.
    """
    return [
        (int(row["epoch"]), row["cpu_seconds"], row[name]) for row in run["rows"] if name in row
    ]


def matched(run: Run, base: Run) -> tuple[int, float] | None:
    """Return epoch and CPU seconds at which a run reaches the last accuracy of SimCLR.

    Args:
        run: Of the same seed.
        base: The run of SimCLR.

    Returns:
        None where it never does.
    """
    goal = curve(base)[-1][2]
    return next(((epoch, sec) for epoch, sec, value in curve(run) if value >= goal), None)


def arm_summary(runs: dict[int, Run], base: dict[int, Run]) -> dict:
    """Summarize an arm at one fraction.

    Args:
        runs: By seed.
        base: SimCLR's, by seed.

    Returns:
        Plain values.
    """
    seeds = sorted(set(runs) & set(base))
    last = {seed: runs[seed]["rows"][-1] for seed in seeds}
    labels = runs[seeds[0]]["labels"] or 1.0
    gain = [last[s]["knn_test"] - base[s]["rows"][-1]["knn_test"] for s in seeds]
    own = f"linear@{labels:g}"
    gain_own = [last[s][own] - base[s]["rows"][-1][own] for s in seeds]
    found = [matched(runs[s], base[s]) for s in seeds]
    reached = [place for place in found if place is not None]
    shares = [_mean(runs[s], "contradiction_share") for s in seeds]
    summary = {
        "seeds": seeds,
        "knn": interval([last[s]["knn_test"] for s in seeds]),
        "knn_gain": interval(gain),
        own: interval([last[s][own] for s in seeds]),
        "linear_gain": interval(gain_own),
        "matched_by": len(reached),
        "epochs_to_match": statistics.fmean(p[0] for p in reached) if reached else None,
        "cpu_seconds_to_match": statistics.fmean(p[1] for p in reached) if reached else None,
        "cpu_seconds": statistics.fmean(runs[s]["cpu_seconds"] for s in seeds),
        "contradiction_share": interval(shares),
        "same_class_pairs": statistics.fmean(_mean(runs[s], "same_class_pairs") for s in seeds),
    }
    for name in ("filter_precision", "filter_recall"):
        if name in last[seeds[0]]:
            summary[name] = interval([last[s][name] for s in seeds])
    return summary


def verdict(gain: tuple[float, float]) -> str:
    """Judge a paired difference.

    Args:
        gain: Mean and half-width.

    Returns:
        yes, no, or undecided at this size.
    """
    mean, half = gain
    if not abs(mean) > half:
        return "undecided at this size"
    return "yes" if mean > 0 else "no, the contrary"


def verdicts(table: dict[Key, dict], size: str) -> list[str]:
    """Write one sentence per idea and arm.

    Args:
        table: From `arm_summary`.
        size: Words for the size of the study.

    Returns:
        The sentences.
    """
    sentences = []
    for (arm, labels), row in table.items():
        idea = {"suncet": "I4", "supcon": "I4", "filter": "I6", "filter+labels": "I6"}.get(arm)
        idea = idea or ("I7" if arm.startswith("semantic") else None)
        if idea is None:
            continue
        mean, half = row["knn_gain"]
        match = row["epochs_to_match"]
        base = OTHER_BASES.get(arm, BASE)
        when = "never matches it"
        if match:
            share = row["cpu_seconds_to_match"] / table[base]["cpu_seconds"]
            when = f"matches it after {match:.0f} epochs, {share:.0%} of its CPU time"
        sentences.append(
            f"{idea}, {arm} with {labels:.0%} labels, {size}: kNN {100 * mean:+.1f} +- "
            f"{100 * half:.1f} points against {base[0]} ({verdict((mean, half))}); {when} "
            f"({row['matched_by']} of {len(row['seeds'])} seeds)."
        )
    base = table[BASE]
    mean, half = base["contradiction_share"]
    sentences.append(
        f"I5, {size}: in SimCLR {base['same_class_pairs']:.1%} of pairs are of one class and carry "
        f"{mean:.1%} +- {half:.1%} of the repulsion."
    )
    if len(table) > 4:
        rows = [row for key, row in table.items() if key != BASE]
        shares = [row["contradiction_share"][0] for row in rows]
        rank, chance = stats.spearmanr(shares, [row["knn_gain"][0] for row in rows])
        sentences.append(
            f"I5, {size}: over {len(rows)} arms the rank correlation of contradiction share and "
            f"gain is {rank:+.2f} (p = {chance:.2g}); labels drive both, so this "
            "does not show a cause."
        )
    sentences.append("I7: word vectors are unmeasured; none is at hand.")
    return sentences


def draw(runs: dict[Key, dict[int, Run]], place: Path) -> None:
    """Draw mean kNN accuracy against epochs, one panel per fraction, SimCLR in each.

    Args:
        runs: By arm and fraction, then seed.
        place: The picture.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    fractions = sorted({labels for _, labels in runs if labels}) or [0.0]
    style = Path(__file__).resolve().parents[1] / "robustcl" / "report" / "style.mplstyle"
    with plt.style.context(style):
        size = (4 * len(fractions), 3.4)
        figure, panels = plt.subplots(1, len(fractions), figsize=size, sharey=True, squeeze=False)
        for panel, fraction in zip(panels[0], fractions, strict=True):
            for (arm, labels), by_seed in runs.items():
                if labels not in (0.0, fraction):
                    continue
                curves = [curve(run) for run in by_seed.values()]
                epochs = [epoch for epoch, _, _ in curves[0]]
                means = [statistics.fmean(c[n][2] for c in curves) for n in range(len(epochs))]
                panel.plot(
                    epochs, means, label=arm, color="black" if arm == "simclr" else None, marker="."
                )
            panel.set(title=f"{fraction:.0%} of labels", xlabel="epochs")
        panels[0][0].set_ylabel("kNN accuracy, test images")
        panels[0][-1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(place, bbox_inches="tight")


def _mean(run: Run, name: str) -> float:
    return statistics.fmean(row[name] for row in run["rows"] if name in row)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lines", type=Path)
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    runs: dict[Key, dict[int, Run]] = defaultdict(dict)
    for line in options.lines.read_text().splitlines():
        run = json.loads(line)
        if run["profile"] == options.profile:
            runs[run["arm"], run["labels"]][run["seed"]] = run
    missing = {BASE, *OTHER_BASES.values()} - set(runs)
    if missing:
        print(f"there is no run of {missing} with profile {options.profile!r} yet")
        return
    table = {
        key: arm_summary(by_seed, runs[OTHER_BASES.get(key[0], BASE)])
        for key, by_seed in runs.items()
    }
    first = next(iter(runs[BASE].values()))
    epochs, images = first["recipe"]["epochs"], first["images"]
    size = f"{images} images, {epochs} epochs, {len(runs[BASE])} seeds"
    sentences = verdicts(table, size)
    rows = [{"arm": arm, "labels": labels, **row} for (arm, labels), row in table.items()]
    place = options.lines.with_suffix(".summary.json")
    place.write_text(json.dumps({"size": size, "arms": rows, "verdicts": sentences}, indent=1))
    for row in rows:
        print(json.dumps(row))
    print("\n".join(sentences))
    if options.figure:
        draw(runs, options.figure)


if __name__ == "__main__":
    main()
