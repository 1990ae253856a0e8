"""Turn the lines of `label_fraction.py` into a table, sentences and a figure.

Each arm is set beside SimCLR without labels at both temperatures that occur in the arms, .5 and .1:
SuNCEt and the class vectors are terms at .1 beside SimCLR at .5, so that neither control alone
tells labels and temperature apart. kNN accuracy and a linear probe with the arm's own share of the
labels are both given. Intervals are 95 % t-intervals over seeds, of differences with the same seed
(paired). A difference is 'above' or 'below' where its interval excludes 0, else 'undecided'.

Run: python benchmarks/label_fraction_summary.py FILE.jsonl [--profile cpu] [--figure FILE.png]
Writes FILE.summary.json beside the lines and prints the table in Markdown.
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

from robustcl.report.figures import STYLE

CONTROLS = {"0.5": ("simclr", 0.0), "0.1": ("simclr tau=0.1", 0.0)}  # by temperature
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


def arm_summary(runs: dict[int, Run], controls: dict[str, dict[int, Run]]) -> dict:
    """Summarize an arm at one fraction.

    Args:
        runs: By seed.
        controls: SimCLR's, by temperature and seed.

    Returns:
        Plain values.
    """
    seeds = sorted(set(runs).intersection(*controls.values()))
    last = {seed: runs[seed]["rows"][-1] for seed in seeds}
    own = f"linear@{runs[seeds[0]]['labels'] or 1.0:g}"
    summary: dict = {"seeds": seeds, "loss": runs[seeds[0]]["recipe"]["loss"]}
    for name, column in (("knn", "knn_test"), ("linear", own)):
        summary[name] = interval([last[s][column] for s in seeds])
        for temperature, control in controls.items():
            gains = [last[s][column] - control[s]["rows"][-1][column] for s in seeds]
            summary[f"{name}_gain_over_{temperature}"] = interval(gains)
    shares = [_mean(runs[s], "contradiction_share") for s in seeds]
    summary |= {
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
        above, below, or undecided.
    """
    mean, half = gain
    if not abs(mean) > half:
        return "undecided"
    return "above" if mean > 0 else "below"


def sentences(table: dict[Key, dict], size: str) -> list[str]:
    """Write one sentence per arm, and two on the share of repulsion between images of one class.

    Args:
        table: From `arm_summary`.
        size: Words for the size of the study.

    Returns:
        The sentences.
    """
    found = []
    for (arm, labels), row in table.items():
        if (arm, labels) == CONTROLS["0.5"]:
            continue
        parts = [
            f"{name} {_points(row[f'{name}_gain_over_{temperature}'])} over SimCLR at "
            f"{temperature} ({verdict(row[f'{name}_gain_over_{temperature}'])})"
            for name in ("knn", "linear")
            for temperature in CONTROLS
            if (arm, labels) != CONTROLS[temperature]
        ]
        found.append(f"{arm} with {labels:.0%} labels, {size}: {'; '.join(parts)}.")
    base = table[CONTROLS["0.5"]]
    mean, half = base["contradiction_share"]
    found.append(
        f"{size}: in SimCLR at 0.5 {base['same_class_pairs']:.1%} of pairs are of one class and "
        f"carry {mean:.1%} +- {half:.1%} of the repulsion."
    )
    if len(table) > 4:
        rows = [row for key, row in table.items() if key not in CONTROLS.values()]
        shares = [row["contradiction_share"][0] for row in rows]
        rank, chance = stats.spearmanr(shares, [row["knn"][0] for row in rows])
        found.append(
            f"{size}: over {len(rows)} arms the rank correlation of that share and kNN accuracy is "
            f"{rank:+.2f} (p = {chance:.2g}); labels drive both, so this does not show a cause."
        )
    return found


def markdown(table: dict[Key, dict]) -> str:
    """Write the table of the page.

    Args:
        table: From `arm_summary`.

    Returns:
        Markdown.
    """
    heads = ["loss", "labels", "kNN (%)", "over SimCLR at .5", "over SimCLR at .1"]
    heads += ["linear, own labels (%)", "over SimCLR at .5", "over SimCLR at .1"]
    lines = [f"| {' | '.join(heads)} | same-class share of repulsion (%) |", "|---" * 9 + "|"]
    for (arm, labels), row in table.items():
        cells = [arm, f"{labels:.0%}"]
        for name in ("knn", "linear"):
            mean, half = row[name]
            cells.append(f"{100 * mean:.1f} ± {100 * half:.1f}")
            cells += [
                "–" if (arm, labels) == CONTROLS[t] else _points(row[f"{name}_gain_over_{t}"])
                for t in CONTROLS
            ]
        cells.append(f"{100 * row['contradiction_share'][0]:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


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
    with plt.style.context(STYLE):
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


def _points(gain: tuple[float, float]) -> str:
    return f"{100 * gain[0]:+.1f} ± {100 * gain[1]:.1f}"


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
    missing = set(CONTROLS.values()) - set(runs)
    if missing:
        print(f"there is no run of {missing} with profile {options.profile!r} yet")
        return
    controls = {temperature: runs[key] for temperature, key in CONTROLS.items()}
    table = {key: arm_summary(by_seed, controls) for key, by_seed in runs.items()}
    first = next(iter(controls["0.5"].values()))
    epochs, images = first["recipe"]["epochs"], first["images"]
    size = f"{images} images, {epochs} epochs, {len(controls['0.5'])} seeds"
    stated = sentences(table, size)
    rows = [{"arm": arm, "labels": labels, **row} for (arm, labels), row in table.items()]
    place = options.lines.with_suffix(".summary.json")
    place.write_text(json.dumps({"size": size, "arms": rows, "verdicts": stated}, indent=1))
    print(markdown(table))
    print("\n".join(stated))
    if options.figure:
        draw(runs, options.figure)


if __name__ == "__main__":
    main()
