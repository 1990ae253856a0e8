"""Compare `attacks.screened` with the reference AutoAttack alone, on the same test images.

Ours: certificates, a round of PGD, the reference on the rest; the time of the certificates is
part of it. The reference is `pyautoattack`, version standard, called as its README says. Both get
the labels, the same batch size, and take turns. Passes are counted on the model by hooks, row by
row, the same way on both sides, rows that only fill up a batch included. What certificates compute
is no pass of the model: it shows in the seconds alone.

`ceiling` is what the reference takes over what survivors without a certificate take: the saving of
a screen that is free and perfect. Budgets were chosen beforehand: Linf 8/255 and L2 0.5 for the
adversarially trained network; L2 0.5, and 36/255 as in papers on them, for the 1-Lipschitz one.
Seconds are of the wall and of the processor; other programs shared the machine, as `load` says.

Run: python benchmarks/screened_against_autoattack.py --cache DIR --data parquet:PATH --out FILE
"""

import argparse
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from benchmarks.robust_networks import load_or_train
from robustcl import attacks
from robustcl.attacks._screened import STAGES
from robustcl.certify import certified_radius, product
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.objectives import misclassify
from robustcl.core.threat import Threat
from robustcl.data import load_data
from robustcl.studies.peers._autoattack import reference_points
from robustcl.studies.peers.rows import Rows, counting

CERTIFICATES = {"product": product, "sound": certified_radius}
CASES: dict[str, tuple[str, Norm, float]] = {
    "adversarial-linf": ("adversarial", "linf", 8 / 255),
    "adversarial-l2": ("adversarial", "l2", 0.5),
    "lipschitz-l2": ("lipschitz", "l2", 0.5),
    "lipschitz-l2-small": ("lipschitz", "l2", 36 / 255),
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """Hold one run of one side.

    Args:
        robust: (B,) whether an image is right and was not fooled.
        rows: Passes.
        seconds: Wall time, and time of the processor.
        details: What else is reported.
    """

    robust: Tensor
    rows: Rows
    seconds: tuple[float, float]
    details: dict[str, Any]


def ours(
    model: Classifier, images: Tensor, labels: Tensor, threat: Threat, options: argparse.Namespace
) -> Outcome:
    """Run the screened attack, certificates included.

    Args:
        model: The network.
        images: Test images.
        labels: Their classes.
        threat: Norm and budget.
        options: Of the command.

    Returns:
        The outcome.
    """
    with counting(model) as rows:
        begun = time.perf_counter(), time.process_time()
        claim = CERTIFICATES[options.certificate](model, images, norm=threat.norm)
        certified = torch.where(claim.predicted == labels, claim.radius, 0.0)
        proving = time.process_time() - begun[1]
        found = attacks.screened(
            misclassify(model, labels), images, threat, certified=certified,
            batch_size=options.batch_size,
        )  # fmt: skip
        seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    details = {
        "certificate_cpu_seconds": proving,
        "decided": {name: found.decided.count(name) for name in STAGES},
        "stated": [int(found.result.forwards.sum()), int(found.finding.gradients.sum())],  # pyright: ignore
        "stated_ceiling": found.ceiling,
    }
    return Outcome(~found.result.success.cpu(), rows, seconds, details)


def theirs(
    model: Classifier, images: Tensor, labels: Tensor, threat: Threat, options: argparse.Namespace
) -> Outcome:
    """Run the reference alone, as its README says.

    Args:
        model: The network.
        images: Test images.
        labels: Their classes.
        threat: Norm and budget.
        options: Of the command.

    Returns:
        The outcome.
    """
    with counting(model) as rows:
        begun = time.perf_counter(), time.process_time()
        found = reference_points(model, images, labels, threat, options.batch_size)
        seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    margin = attacks.measure(misclassify(model, labels), found, batch_size=options.batch_size)
    return Outcome(~(margin > 0), rows, seconds, {})


def compared(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Let both sides take turns on one case.

    Args:
        name: A key of `CASES`.
        options: Of the command.

    Returns:
        Plain numbers.
    """
    network, norm, eps = CASES[name]
    model = load_or_train(network, data=options.data, cache=options.cache)
    batch = load_data(options.data, split="test").batch(range(options.images))
    images, labels, threat = batch.images, batch.labels, Threat(norm, eps)
    sides: tuple[Callable[..., Outcome], ...] = (ours, theirs)
    runs: list[tuple[Outcome, Outcome]] = []
    for turn in range(options.repeats):
        pair = {side: side(model, images, labels, threat, options)
                for side in (sides if turn % 2 == 0 else sides[::-1])}  # fmt: skip
        runs.append((pair[ours], pair[theirs]))
        print(name, turn, *(outcome.seconds for outcome in runs[-1]), file=sys.stderr, flush=True)
    first, other = runs[0]
    clean = (model(images).argmax(1) == labels).double().mean()
    left = first.details["decided"]["survived"]
    proved = first.details["decided"]["certified"]
    most, _ = attacks.reference_cost(10, norm)
    saving = other.rows.gradients / first.rows.gradients
    ceiling = other.rows.gradients / (left * most.gradients) if left else None
    ratios = [[b.seconds[k] / a.seconds[k] for a, b in runs] for k in (0, 1)]
    return {
        "case": name, "network": network, "norm": norm, "eps": eps, "images": len(images),
        "certificate": options.certificate, "clean_accuracy": float(clean),
        "robust_accuracy": [float(side.robust.double().mean()) for side in (first, other)],
        "fooled_by_reference_only": int((first.robust & ~other.robust).sum()),
        "fooled_by_ours_only": int((~first.robust & other.robust).sum()),
        "certified_of_survivors": proved / max(proved + left, 1),
        "gradients": [side.rows.gradients for side in (first, other)],
        "forwards": [side.rows.forwards for side in (first, other)],
        "saving": saving, "ceiling": ceiling,
        "share_of_ceiling": saving / ceiling if ceiling else None,
        "saving_in_forwards": other.rows.forwards / first.rows.forwards,
        "times_faster": statistics.median(ratios[0]),
        "times_faster_cpu": statistics.median(ratios[1]),
        "seconds": [[run[side].seconds[0] for run in runs] for side in (0, 1)],
        "cpu_seconds": [[run[side].seconds[1] for run in runs] for side in (0, 1)],
        **first.details,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--certificate", default="product", choices=list(CERTIFICATES))
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="append the JSON lines here")
    options = parser.parse_args()
    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    for name in options.cases:
        result = compared(name, options)
        hidden = (options.cache, options.data, str(options.out))
        load = [round(value, 2) for value in os.getloadavg()]
        record({**result, "load": load, **provenance(hidden=hidden)}, options.out)


if __name__ == "__main__":
    main()
