"""Measure the peak memory of certificates on 8, 64 and 512 images, each in a process of its own.

What is measured is the most memory resident during the call less what was resident before it, with
the model and the images loaded and two images treated already (libraries allocate at first use).
Everything but the results should be independent of the number of images. `flat` says whether the
largest number of images takes at most 1.15 times the memory of the one before it. Linux only.

Run: python benchmarks/memory.py [--tasks pairwise_gradients smoothing] [--out FILE] [--figure FILE]
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl.certify import (
    certified_radius,
    clever,
    decide_radius,
    first_order,
    jacobian_norm,
    pairwise_slopes,
    smoothing,
)
from robustcl.core.classifier import Classifier, Encoder
from robustcl.models.encoders import cifar_resnet18, small_convnet
from robustcl.models.heads import PrototypeHead
from robustcl.report.figures import STYLE

COUNTS = (8, 64, 512)
Task = Callable[[Classifier, Tensor], Any]
TASKS: dict[str, Task] = {
    "pairwise_gradients": lambda model, images: pairwise_slopes(model, images, norm="l2"),
    "first_order": first_order,
    "jacobian_norm": jacobian_norm,
    "clever": lambda model, images: clever(model, images, batches=4, samples=8, batch_size=32),
    "smoothing": lambda model, images: smoothing(model, images, n=200, n_select=20, form="mean"),
    "decide_radius": lambda model, images: decide_radius(
        model, images, radius=0.1, n=200, n_select=20
    ),
    "certified_radius": certified_radius,
}


def network(kind: str) -> Classifier:
    torch.manual_seed(0)
    if kind == "resnet18":
        model = Classifier(
            Encoder(cifar_resnet18(), image_shape=(3, 32, 32)),
            PrototypeHead(torch.randn(10, 512)),
        )
    else:
        backbone = small_convnet()
        model = Classifier(
            Encoder(backbone, image_shape=(3, 32, 32)), PrototypeHead(torch.randn(10, 64))
        )
    return model.eval()


def resident(field: str) -> float:
    # MiB: VmRSS now, VmHWM the most since it was last reset.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field}")


def measured(task: str, kind: str, count: int) -> float:
    """Measure one call in this process.

    Args:
        task: A key of `TASKS`.
        kind: Of the network.
        count: Images.

    Returns:
        The peak over what was resident before, in MiB.
    """
    torch.set_num_threads(1)
    model, run = network(kind), TASKS[task]
    images = torch.rand(count, 3, 32, 32)
    run(model, images[:2])
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run(model, images)
    return resident("VmHWM") - before


def in_child(task: str, kind: str, count: int) -> float:
    command = [sys.executable, __file__, "--child", task, kind, str(count)]
    # Large blocks go back to the system when they are freed, so that the peak is of live ones.
    settings = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576"}
    done = subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


def drawn(rows: list[dict[str, Any]], place: Path) -> None:
    import matplotlib.pyplot as plt  # the figure alone needs it

    with plt.style.context(STYLE):
        figure, ax = plt.subplots(figsize=(4.8, 3.2))
        for row in rows:
            ax.plot(list(COUNTS), row["peak_mib"], marker="o", label=row["task"])
        ax.set(xscale="log", ylim=(0, None), xlabel="images in one call")
        ax.set_ylabel("peak memory [MiB]")
        ax.set_xticks(list(COUNTS), [str(count) for count in COUNTS])
        ax.minorticks_off()
        ax.set_title("Memory and the number of images")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        place.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(place)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--network", default="convnet", choices=["convnet", "resnet18"])
    parser.add_argument("--out", type=Path, help="append the JSON lines here")
    parser.add_argument("--figure", type=Path, help="draw the curves here")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task, kind, count = options.child
        print(measured(task, kind, int(count)))
        return
    made = provenance(hidden=(str(options.out), str(options.figure)))
    rows = []
    for task in options.tasks:
        peaks = [round(in_child(task, options.network, count), 1) for count in COUNTS]
        row = {"task": task, "network": options.network, "images": COUNTS, "peak_mib": peaks}
        rows.append(row | {"flat": peaks[-1] <= 1.15 * peaks[-2], **made})
        record(rows[-1], options.out)
    if options.figure:
        if options.out:  # with the rows of runs before; the last of each task counts
            lines = options.out.read_text().splitlines()
            rows = list({row["task"]: row for row in map(json.loads, lines)}.values())
        drawn(rows, options.figure)


if __name__ == "__main__":
    main()
