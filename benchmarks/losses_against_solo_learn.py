"""Compare NT-Xent and SuNCEt with solo-learn's loss, in values and gradients, in float64.

solo-learn has one function for both of its methods: -log of the share of the positives' sum. With
a number per image it is NT-Xent. With labels, as its method SupCon calls it, the mean over the
positives is inside of the log: that is SuNCEt, not the loss of Khosla et al. whose mean is outside
(equation 2; theirs inside is equation 3, up to a constant). So it is held against `suncet`; how far
`sup_con` is from it is recorded as well.

The package is not on PyPI. Its file of the loss is read from a checkout; of its `solo.utils.misc`,
which imports much, the two functions that the loss uses are replaced by what they do in a single
process.

The committed figures are of its revision 9187ea3 of April 2026.

Run: ROBUSTCL_SOLO_LEARN=CHECKOUT python benchmarks/losses_against_solo_learn.py [--out FILE]
"""

import argparse
import importlib.util
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl.training.losses import nt_xent, suncet, sup_con

TEMPERATURES = (0.05, 0.1, 0.5, 1.0)
BATCHES = (2, 16, 128)
CLASSES = 5
Loss = Callable[[Tensor], Tensor]


def solo_learn_loss(checkout: Path) -> Any:
    """Read the loss from a checkout.

    Args:
        checkout: The repository's folder.

    Returns:
        Its `simclr_loss_func`.
    """
    misc: Any = types.ModuleType("solo.utils.misc")
    misc.gather, misc.get_rank = (lambda values: values), (lambda: 0)
    sys.modules["solo.utils.misc"] = misc
    place = checkout / "solo" / "losses" / "simclr.py"
    specification = importlib.util.spec_from_file_location("solo_simclr", place)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.simclr_loss_func


def differences(mine: Loss, other: Loss, views: Tensor) -> tuple[float, float]:
    """Compare two losses at one point.

    Args:
        mine: (2, B, d) views to a scalar.
        other: Likewise.
        views: (2, B, d).

    Returns:
        The relative difference of the values, and that of the gradients.
    """
    results = []
    for loss in (mine, other):
        points = views.clone().requires_grad_()
        value = loss(points)
        results.append((float(value.detach()), torch.autograd.grad(value, points)[0]))
    (value, slope), (their_value, their_slope) = results
    return (
        abs(value - their_value) / abs(their_value),
        float((slope - their_slope).norm() / their_slope.norm()),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    checkout = os.environ.get("ROBUSTCL_SOLO_LEARN")
    if not checkout or not (Path(checkout) / "solo" / "losses" / "simclr.py").is_file():
        print("skipped: set ROBUSTCL_SOLO_LEARN to a checkout of vturrisi/solo-learn")
        return
    theirs = solo_learn_loss(Path(checkout))
    largest: dict[str, list[float]] = {}
    for tau in TEMPERATURES:
        for count in BATCHES:
            torch.manual_seed(count)
            views = torch.randn(2, count, 32, dtype=torch.float64)
            labels = torch.randint(CLASSES, (count,))

            def solo(points: Tensor, own: Tensor, tau: float = tau) -> Tensor:
                return theirs(points.flatten(0, 1), own.repeat(2), temperature=tau)

            rows = torch.arange(count)
            cases: dict[str, tuple[Loss, Tensor]] = {
                "nt_xent": (lambda z, t=tau: nt_xent(z[0], z[1], temperature=t), rows),
                "suncet": (lambda z, y=labels, t=tau: suncet(z[0], z[1], y, temperature=t), labels),
                "sup_con": (
                    lambda z, y=labels, t=tau: sup_con(z[0], z[1], y, temperature=t),
                    labels,
                ),
            }
            for name, (mine, own) in cases.items():
                found = differences(mine, lambda z, y=own, f=solo: f(z, y), views)
                known = largest.setdefault(name, [0.0, 0.0])
                largest[name] = [max(pair) for pair in zip(known, found, strict=True)]
    for name, (value, slope) in largest.items():
        result = {
            "loss": name,
            "peer": "solo-learn " + ("SimCLR" if name == "nt_xent" else "SupCon"),
            "same_definition": name != "sup_con",
            "cases": len(TEMPERATURES) * len(BATCHES),
            "largest_relative_difference": value,
            "largest_relative_difference_of_gradients": slope,
            **provenance(hidden=(str(options.out),)),
        }
        record(result, options.out)


if __name__ == "__main__":
    main()
