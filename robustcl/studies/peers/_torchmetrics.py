"""Set the calibration error beside that of torchmetrics."""

import torch
from torch import Tensor

from robustcl.calibration import calibration_error, top_label
from robustcl.studies.peers.comparison import (
    Comparison,
    ComparisonInputs,
    compare_programs,
    import_peer,
    named,
)

BINS, PER_BIN, CLASSES = 15, 1000, 100
_CLOSE = 1e-5  # torchmetrics computes in float32


def torchmetrics(inputs: ComparisonInputs) -> list[Comparison]:
    """Compare values, then time.

    torchmetrics cuts confidence into bins of equal width, this toolkit into bins of equal count.
    The probabilities are drawn so that both are the same bins: as many in each of 15 intervals.
    Labels are drawn so that the error is far from 0.

    Args:
        inputs: Seed and device; model and images play no role.

    Returns:
        One comparison.
    """
    peer = import_peer("torchmetrics.functional.classification", cure="pip install torchmetrics")
    shares, labels = (part.to(inputs.device) for part in _draw(inputs.seed))

    def ours() -> float:
        return calibration_error(*top_label(shares, labels), bins=BINS)

    def theirs() -> float:
        found = peer.multiclass_calibration_error(
            shares, labels, num_classes=CLASSES, n_bins=BINS, norm="l1"
        )
        return float(found)

    return [
        compare_programs(
            inputs,
            f"calibration error, {BINS} bins, {len(labels):,} images, {CLASSES} classes",
            named("torchmetrics"),
            ours=ours,
            theirs=theirs,
            agreement=_agreement,
        )
    ]


def _draw(seed: int) -> tuple[Tensor, Tensor]:
    # Confidence inside each interval and away from its ends; the other classes share the rest.
    generator = torch.Generator().manual_seed(seed)
    inside = 0.2 + 0.6 * torch.rand(BINS, PER_BIN, generator=generator)
    confidence = ((torch.arange(BINS)[:, None] + inside) / BINS).flatten()
    confidence = confidence[torch.randperm(len(confidence), generator=generator)]
    shares = ((1.0 - confidence) / (CLASSES - 1))[:, None].repeat(1, CLASSES)
    guesses = torch.randint(CLASSES, (len(confidence),), generator=generator)
    shares[torch.arange(len(confidence)), guesses] = confidence
    right = torch.rand(len(confidence), generator=generator) < confidence.square()
    return shares, torch.where(right, guesses, (guesses + 1) % CLASSES)


def _agreement(ours: float, theirs: float) -> tuple[bool, str]:
    return abs(ours - theirs) <= _CLOSE, f"{ours:.6f} and {theirs:.6f}"
