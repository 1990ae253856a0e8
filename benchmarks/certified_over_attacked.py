"""Draw, per network, how much of the attacked radius each certificate proves.

The records are those of `benchmarks/certificates.py`: the median, over rightly classified test
images, of certified over attacked radius. The true radius lies between the two, so 1 is exact.

Run: python benchmarks/certified_over_attacked.py RECORDS... --out FILE.png
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from robustcl.report.figures import STYLE

MARKERS = {"product": "v", "local": "o", "crown": "s", "sound": "|"}
NORMS = {"l2": "L2", "linf": "Linf"}


def draw(ax: Axes, rows: list[dict[str, Any]]) -> None:
    """Draw one line of markers per network.

    Args:
        ax: Where.
        rows: Records of one norm.
    """
    names = [row["network"] for row in rows]
    for method, marker in MARKERS.items():
        shares = [row[method]["of_attacked"] for row in rows]
        size = 14 if method == "sound" else 5
        ax.plot(shares, names, ls="none", marker=marker, label=method, ms=size, mew=size / 7)
    ax.set(xlim=(-0.02, 1.02), xlabel="certified / attacked radius, median")
    ax.set_title(NORMS[rows[0]["norm"]])
    ax.grid(visible=True, axis="y", alpha=0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, nargs="+", help="JSON lines, one file per norm")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    tables = [
        [json.loads(line) for line in place.read_text().splitlines()] for place in options.records
    ]
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(
            1, len(tables), figsize=(1.4 + 3.2 * len(tables), 3.6), sharey=True, squeeze=False
        )
        for ax, rows in zip(axes[0], tables, strict=True):
            draw(ax, rows)
        axes[0, 0].invert_yaxis()  # shared: the first network on top
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(options.out, bbox_inches="tight")


if __name__ == "__main__":
    main()
