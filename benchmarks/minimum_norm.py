"""Compare minimum-norm attacks with their peers: whose perturbations are smaller, and at what cost.

Ours run through `attacks.attacked_radius` with the whole box as the largest budget. Peers: FAB of
the reference package `pyautoattack`, untargeted (one run, and the best of five) and targeted (the
best of nine classes; by itself the package stops at the first that wins); torchattacks' FAB,
DeepFool, CW and EADEN, with their own defaults and, where those are few steps, with more. The class
to be left is the predicted one, so that every image counts. All points are clipped to the box
(EADEN leaves it by 4e-5) and measured again, the same way. Gradients and forward passes are rows
counted on the model by hooks. Methods take turns; seconds are medians over turns, of the wall and
of the processor; other programs shared the machine, as `load` says.

Per method: `failures`; `median`, a failure being infinite; `mean` over what was found, and
`walk_mean`, that of our boundary_walk on the same images; `over_walk`, the mean of the ratios;
`nearest_on`, on how many images nothing else is nearer by more than 0.1 %.

Run: python benchmarks/minimum_norm.py --cache DIR --data parquet:PATH [--out FILE]
"""

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import networks, robust_networks
from benchmarks.provenance import provenance, record
from robustcl import attacks
from robustcl.core.choices import CERTIFIED_NORMS, CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.data import load_data
from robustcl.studies.peers.comparison import AbsentError, import_peer
from robustcl.studies.peers.nearest import (
    Points,
    our_points,
    reference_fab,
    torchattacks_points,
    verified_norms,
)
from robustcl.studies.peers.rows import Rows, counting

OURS = ("boundary_walk", "fmn", "ddn", "deepfool")
WALK = "boundary_walk"


@dataclass(frozen=True, eq=False)
class Run:
    """Hold one run of one method.

    Args:
        radius: (B,) float64 norms of verified points, infinite without one.
        rows: Passes.
        seconds: Wall time, and time of the processor.
    """

    radius: Tensor
    rows: Rows
    seconds: tuple[float, float]


def methods(norm: CertifiedNorm) -> dict[str, Points]:
    """List the methods for a norm.

    Args:
        norm: 'l2' or 'linf'.

    Returns:
        Functions of model, images, classes to be left and norm.
    """
    found: dict[str, Points] = {
        name: partial(our_points, name) for name in OURS if norm in attacks.ATTACKS[name].norms
    }
    found["reference FAB"] = reference_fab
    found["reference FAB, best of 5"] = partial(reference_fab, restarts=5)
    found["reference FAB, targeted"] = partial(reference_fab, targeted=True)
    found["torchattacks FAB"] = partial(torchattacks_points, "FAB")
    found["torchattacks FAB, 100 steps"] = partial(torchattacks_points, "FAB", steps=100)
    if norm == "l2":
        found["torchattacks DeepFool"] = partial(torchattacks_points, "DeepFool")
        found["torchattacks CW"] = partial(torchattacks_points, "CW")
        found["torchattacks CW, c=10, 500 steps"] = partial(
            torchattacks_points, "CW", c=10, steps=500
        )
        found["torchattacks EADEN"] = partial(torchattacks_points, "EADEN")
    return found


def timed(
    method: Points, model: Classifier, images: Tensor, left: Tensor, norm: CertifiedNorm
) -> Run:
    """Run a method once and measure its points.

    Args:
        method: The method.
        model: The network.
        images: The images.
        left: Classes to be left.
        norm: 'l2' or 'linf'.

    Returns:
        The run.
    """
    with counting(model) as rows:
        begun = time.perf_counter(), time.process_time()
        points = method(model, images, left, norm)
        seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    return Run(verified_norms(model, images, points, left, norm), rows, seconds)


def compared(name: str, norm: CertifiedNorm, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Let all methods take turns on one network.

    Args:
        name: Of the network.
        norm: 'l2' or 'linf'.
        options: Of the command.

    Returns:
        Plain numbers, one row per method.
    """
    source = robust_networks if name in robust_networks.NETWORKS else networks
    model = source.load_or_train(name, data=options.data, cache=options.cache)
    spec = "digits" if name.startswith("digits") else options.data
    images = load_data(spec, split="test").batch(range(options.images)).images
    with torch.no_grad():
        left = model(images).argmax(dim=1)
    table = methods(norm)
    runs: dict[str, list[Run]] = {key: [] for key in table}
    for turn in range(options.repeats):
        order = list(table)[:: 1 if turn % 2 == 0 else -1]
        for key in order:
            runs[key].append(timed(table[key], model, images, left, norm))
            seconds = runs[key][-1].seconds[1]
            print(f"{name} {norm} {key}: {seconds:.1f} s", file=sys.stderr, flush=True)
    radii = torch.stack([of[0].radius for of in runs.values()])
    least, walk = radii.amin(dim=0), runs[WALK][0].radius
    rows = []
    for key, of in runs.items():
        radius = of[0].radius
        both = radius.isfinite() & walk.isfinite()
        rows.append({
            "network": name, "norm": norm, "images": len(images), "method": key,
            "ours": key in OURS,
            "failures": int(radius.isinf().sum()),
            "median": float(radius.median()),
            "mean": float(radius[both].mean()),
            "walk_mean": float(walk[both].mean()),
            "over_walk": float((radius[both] / walk[both]).mean()),
            "nearest_on": int((radius <= 1.001 * least).sum()),
            "gradients_per_image": of[0].rows.gradients / len(images),
            "forwards_per_image": of[0].rows.forwards / len(images),
            "seconds": statistics.median(run.seconds[0] for run in of),
            "cpu_seconds": statistics.median(run.seconds[1] for run in of),
        })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--networks", nargs="*",
                        default=["adversarial", "color-conv4", "digits-conv2"])  # fmt: skip
    parser.add_argument(
        "--norms", nargs="*", default=list(CERTIFIED_NORMS), choices=list(CERTIFIED_NORMS)
    )
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="append the JSON lines here")
    options = parser.parse_args()
    try:
        import_peer("torchattacks", cure='pip install ".[torchattacks]"')
    except AbsentError as error:
        print(f"skipped: {error}")
        return
    for name in options.networks:
        for norm in options.norms:
            rows = compared(name, norm, options)
            load = [round(value, 2) for value in os.getloadavg()]
            made = provenance(hidden=(options.cache, options.data, str(options.out)))
            for row in rows:
                record({**row, "load": load, **made}, options.out)


if __name__ == "__main__":
    main()
