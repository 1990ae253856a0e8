"""Evaluate margins in float64, and estimate what rounding leaves of them."""

import torch
from torch import Tensor

from robustcl.attacks.measuring import measure
from robustcl.attacks.rounded import Rounded
from robustcl.core.objectives import Objective

_DRAWS = 2  # of changed operands
_SHARE = (
    2.0**-20
)  # of float32's error: 512 times 2^-29, which is float64's unit of rounding over it
ALONE = 16.0  # times the difference between two batch shapes


def exact_margin(
    exact: Objective, rough: Objective, points: Tensor, *, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Evaluate the margin in float64, and estimate how far rounding may have moved it.

    The bound is the largest of what the margin moves by when all operands of the computation are
    changed at random by about 2^-44 of themselves (see `Rounded`) and of 2^-20 of the difference
    between float32 and float64, plus 16 times that between two batch shapes. It knows nothing of
    the network, so it is an estimate with a safety factor of about 512, not a proof.

    Args:
        exact: The aim in float64.
        rough: The same in float32.
        points: (B, C, H, W), which are given to `exact` as float64 and to `rough` in its type.
        batch_size: Rows per call.

    Returns:
        (B,) float64 margins, the lower of those in a batch and alone, and their (B,) bounds; only
        where the margin is larger has the network in real arithmetic lost. A bound may be infinite
        or NaN.
    """
    double = points.detach().double()
    single = double.to(points.dtype if rough.classifier is None else _type(rough))
    whole = measure(exact, double, batch_size=batch_size).double()
    alone = measure(exact, double, batch_size=1).double()
    apart = _SHARE * (measure(rough, single, batch_size=batch_size).double() - whole).abs()
    for seed in range(_DRAWS):
        with Rounded(seed):
            changed = measure(exact, double, batch_size=batch_size).double()
        apart = torch.maximum(apart, (changed - whole).abs())
    return torch.minimum(whole, alone), apart + ALONE * (whole - alone).abs()


def _type(objective: Objective) -> torch.dtype:
    assert objective.classifier is not None
    return objective.classifier.encoder.mean.dtype
