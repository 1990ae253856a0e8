"""Compute the curves of a multi-view study's figures."""

import torch
from torch import Tensor

from robustcl.calibration import bootstrap, risk_coverage, top_label
from robustcl.calibration.errors import untied_bins

BINS = 10
POINTS = 200


def curves(shares: Tensor, labels: Tensor) -> dict[str, list[list[float]]]:
    """Compute a reliability diagram and a risk-coverage curve, with 95 % bands.

    Args:
        shares: (N, K) probabilities.
        labels: (N,) classes.

    Returns:
        'reliability': per bin of nearly equal count (see `untied_bins`), mean confidence, share
        that is right, and its band by bootstrap; 'risk': coverage, risk, and its band by the normal
        approximation.
    """
    confidence, correct = top_label(shares, labels)
    coverage, risk = risk_coverage(confidence, correct)
    rows = []
    for part in untied_bins(confidence, bins=min(BINS, 1 + len(confidence) // 40)):
        share = bootstrap(
            lambda drawn, part=part: float(correct[part[drawn]].mean()), len(part), draws=200
        )
        rows.append([float(confidence[part].double().mean()), share.value, share.low, share.high])
    thin = torch.linspace(0, len(coverage) - 1, min(POINTS, len(coverage))).long()
    spread = (risk * (1 - risk) / (coverage * len(labels))).sqrt()
    columns = (coverage, risk, (risk - 1.96 * spread).clamp_min(0), risk + 1.96 * spread)
    return {
        "reliability": rows,
        "risk": torch.stack([column[thin] for column in columns], dim=1).tolist(),
    }
