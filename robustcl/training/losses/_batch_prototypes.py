"""Compare every view with the class means of the batch, with a margin in pixel units."""

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.training.losses.similarities import (
    check_margin,
    check_shapes,
    check_temperature,
    group_of,
    unit,
)


def batch_prototypes(
    first: Tensor,
    second: Tensor,
    labels: Tensor,
    *,
    margin: float = 1.0,
    temperature: float = 0.25,
    normalize: bool = False,
) -> Tensor:
    """Compute the cross-entropy of each view against the prototypes of its batch.

    The views of one label are a group; an unlabeled image is a group of its own with its two
    views. p_g is the direction of the mean of group g's unit embeddings, from which the view i
    itself is left out where g is its own group. With h the raw embedding, the loss of view i is
    -log( e_ig / sum_k e_ik ), e_ik = exp( (h_i . p_k - margin [k = g]) / temperature ).

    All views of the batch act as positives or negatives, through their mean, and gradients go
    through the means. h is not normalized: for an encoder of Lipschitz constant 1 the prototype
    head's certified radius is min_k (p_g - p_k) . h / |p_g - p_k|, so that the margin is a length
    in pixel space: pairs of orthogonal prototypes reach it at a radius of margin / sqrt(2).

    Args:
        first: (B, d) raw embeddings of one view of each image; B >= 2.
        second: (B, d) raw embeddings of the other view, in the same order.
        labels: (B,) integer labels, -1 where unknown.
        margin: By how much the own prototype must lead, in units of h.
        temperature: Of the softmax, in units of h; > 0.
        normalize: Compare h / |h| instead; margins are then differences of cosines.

    Returns:
        A scalar, the mean over views; 0 with one group alone. Shapes, labels, margin and
        temperature that do not fit are refused.

    Reference:
        Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017 (class means of the
        batch); Tsuzuku et al., Lipschitz-Margin Training, NeurIPS 2018 (margin within the softmax).
    """
    check_temperature(temperature)
    check_margin(margin)
    check_shapes(first, second)
    groups = group_of(labels, len(first))
    with torch.autocast(first.device.type, enabled=False):
        views = torch.cat([first, second])
        units = unit(views)
        anchors = units if normalize else views.to(units.dtype)
        members = functional.one_hot(groups).to(units.dtype)
        sums = members.T @ units
        others = unit(sums[groups] - units)
        lead = (anchors * others).sum(dim=1, keepdim=True) - margin
        logits = (anchors @ unit(sums).T).scatter(1, groups[:, None], lead) / temperature
    return functional.cross_entropy(logits, groups)
