"""Pull labeled images to the target vector of their class."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError
from robustcl.training.losses.similarities import check_margin, check_temperature, unit

_Form = Literal["cross_entropy", "cosine"]


def semantic(
    first: Tensor,
    second: Tensor,
    labels: Tensor,
    targets: Tensor,
    *,
    temperature: float = 0.1,
    form: _Form = "cross_entropy",
    margin: float = 0.0,
    normalize: bool = True,
) -> Tensor:
    """Compare the embeddings of labeled images with fixed class vectors w_c.

    'cross_entropy': -log softmax_y( (z . w_c - margin [c = y]) / T ); 'cosine': 1 - z . w_y.
    Unlabeled images do not count; without labeled ones the loss is 0. With normalize=False the raw
    embedding h stands for z; for an encoder of Lipschitz constant 1 its margins are lengths in
    pixel space.

    Args:
        first: (B, d) raw embeddings of one view of each image.
        second: (B, d) raw embeddings of the other view, in the same order.
        labels: (B,) integer labels, -1 where unknown.
        targets: (K, d) class vectors, normalized here.
        temperature: T > 0; without effect on 'cosine'.
        form: Which of the two.
        margin: By how much the own class must lead; without effect on 'cosine'.
        normalize: Whether embeddings are normalized; 'cosine' needs it.

    Returns:
        A scalar, the mean over labeled views.

    Raises:
        InputError: When shapes do not match, a label has no target, or form, margin and normalize
            are not usable.

    Reference:
        Frome et al., DeViSE: A Deep Visual-Semantic Embedding Model, NeurIPS 2013, with cross
        entropy in place of the hinge.
    """
    check_temperature(temperature)
    if first.shape != second.shape or labels.shape != first.shape[:1]:
        raise InputError(
            f"embeddings of shapes {tuple(first.shape)}, {tuple(second.shape)} with labels of "
            f"shape {tuple(labels.shape)}; give (B, d) twice and (B,)"
        )
    if targets.ndim != 2 or targets.shape[1] != first.shape[1]:
        raise InputError(
            f"targets of shape {tuple(targets.shape)} for embeddings of size {first.shape[1]}; "
            "bring them to that size by robustcl.training.targets.embed_targets"
        )
    highest = int(labels.max()) if len(labels) else -1
    if highest >= len(targets):
        raise InputError(f"label {highest} has no target among {len(targets)}; give one per class")
    if form not in ("cross_entropy", "cosine"):
        raise InputError(f"unknown form {form!r}; use 'cross_entropy' or 'cosine'")
    check_margin(margin)
    if form == "cosine" and not normalize:
        raise InputError("form=cosine compares directions; leave normalize, or use cross_entropy")
    known = labels >= 0
    with torch.autocast(first.device.type, enabled=False):
        raw = torch.cat([first[known], second[known]])
        views = unit(raw) if normalize else raw.to(unit(raw).dtype)
        cosines = views @ unit(targets).to(views.dtype).T
    wanted = labels[known].repeat(2)
    if form == "cosine":
        losses = 1.0 - cosines.gather(1, wanted[:, None])[:, 0]
    else:
        lead = margin * functional.one_hot(wanted, len(targets)).to(cosines)
        losses = functional.cross_entropy((cosines - lead) / temperature, wanted, reduction="none")
    return losses.sum() / max(len(wanted), 1)
