"""Compute SuNCEt on raw embeddings, with a margin in pixel units."""

import torch
from torch import Tensor

from robustcl.training.losses._suncet import suncet_of
from robustcl.training.losses.similarities import (
    check_margin,
    check_shapes,
    check_temperature,
    same_class,
    unit,
)


def margin_suncet(
    first: Tensor,
    second: Tensor,
    labels: Tensor,
    *,
    margin: float = 1.0,
    temperature: float = 0.25,
    normalize: bool = False,
) -> Tensor:
    """Compute SuNCEt with anchors that are not normalized and positives that must lead by a margin.

    With h_i the raw embedding of the anchor and z_k = h_k / |h_k|, the logits of `suncet` are
    (h_i . z_k - margin [k of the same label]) / temperature: for an encoder of Lipschitz constant
    1, h_i . z_p - h_i . z_k is |z_p - z_k| times the distance of h_i to the plane between the two.

    Args:
        first: (B, d) raw embeddings of one view of each image; B >= 2.
        second: (B, d) raw embeddings of the other view, in the same order.
        labels: (B,) integer labels, -1 where unknown; unlabeled images do not count.
        margin: By how much positives must lead, in units of h.
        temperature: In units of h; > 0.
        normalize: Compare h / |h| instead; margins are then differences of cosines.

    Returns:
        A scalar, the mean over labeled views.

    Reference:
        Assran et al., Supervision Accelerates Pre-training in Contrastive Semi-Supervised Learning
        of Visual Representations, 2020; Tsuzuku et al., Lipschitz-Margin Training, NeurIPS 2018.
    """
    check_temperature(temperature)
    check_margin(margin)
    check_shapes(first, second)
    positive = same_class(labels, len(first))
    with torch.autocast(first.device.type, enabled=False):
        views = torch.cat([first, second])
        units = unit(views)
        anchors = units if normalize else views.to(units.dtype)
        logits = (anchors @ units.T - margin * positive.to(units)) / temperature
        itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    return suncet_of(logits.masked_fill(itself, -torch.inf), labels)
