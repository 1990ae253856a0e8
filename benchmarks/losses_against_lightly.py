"""Compare NT-Xent with lightly's, in values and gradients, in float64.

lightly has no SupCon, SuNCEt, debiased or filtered loss; its DCL is the decoupled one, which this
toolkit does not have. The other losses are held against loops over their definitions in
tests/losses.

Run: pip install lightly && python benchmarks/losses_against_lightly.py [--out FILE]
"""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

import torch

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl.training.losses import nt_xent

TEMPERATURES = (0.05, 0.1, 0.5, 1.0)
BATCHES = (2, 16, 128)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    try:
        from lightly.loss import NTXentLoss  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("skipped: lightly is not installed; pip install lightly")
        return
    value_gap = slope_gap = 0.0
    for temperature in TEMPERATURES:
        for count in BATCHES:
            torch.manual_seed(count)
            ours = torch.randn(2, count, 32, dtype=torch.float64).requires_grad_()
            theirs = ours.detach().clone().requires_grad_()
            mine = nt_xent(ours[0], ours[1], temperature=temperature)
            other = NTXentLoss(temperature=temperature)(theirs[0], theirs[1])
            (slope,) = torch.autograd.grad(mine, ours)
            (their_slope,) = torch.autograd.grad(other, theirs)
            value_gap = max(value_gap, float((mine - other).detach().abs() / other.detach().abs()))
            slope_gap = max(slope_gap, float((slope - their_slope).norm() / their_slope.norm()))
    result = {
        "loss": "nt_xent",
        "peer": f"lightly {version('lightly')}",
        "cases": len(TEMPERATURES) * len(BATCHES),
        "largest_relative_difference": value_gap,
        "largest_relative_difference_of_gradients": slope_gap,
        **provenance(hidden=(str(options.out),)),
    }
    record(result, options.out)


if __name__ == "__main__":
    main()
