"""Fit a linear head without offset whose rows have a norm of 1 at most."""

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError
from robustcl.models.heads._linear import LinearHead
from robustcl.models.heads._prototype import check_labels

_STEPS = 100


def lipschitz_linear(
    embeddings: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    margin: float = 1.0,
    temperature: float = 0.25,
) -> LinearHead:
    """Fit rows w_k of norm 1 at most to the raw embeddings h of an encoder that is 1-Lipschitz.

    The loss is -log softmax_y( (h . w_k - margin [k = y]) / temperature ), the mean over images.
    Without offsets the decision is the same for h and h / |h|, and no class j overtakes y within
    (w_y - w_j) . h / |w_y - w_j|: scaling h or W buys nothing, so the margin is a length. The
    norms |w_y - w_j| are those of `certify.pairs`, 2 at most.

    Args:
        embeddings: (N, d) raw embeddings, not normalized.
        labels: (N,) classes; every class 0..K-1 must occur.
        num_classes: K >= 2.
        margin: By how much the own class must lead, in units of h.
        temperature: Of the softmax, in units of h; > 0.

    Returns:
        The head, with offsets 0.

    Raises:
        InputError: When a class is missing, a label is outside the classes, or margin and
            temperature are not usable.
    """
    check_labels(embeddings, labels, num_classes)
    present = int(labels.unique().numel())
    if present != num_classes or num_classes < 2:
        raise InputError(f"{present} of {num_classes} classes have examples; need all, and two")
    if not (margin >= 0.0 and temperature > 0.0):
        raise InputError(
            f"margin {margin} and temperature {temperature}; give 0 or more, and above 0"
        )
    points = embeddings.detach().double()
    means = torch.stack([points[labels == k].mean(dim=0) for k in range(num_classes)])
    free = functional.normalize(means - means.mean(dim=0), dim=1).requires_grad_()
    lead = margin * functional.one_hot(labels, num_classes).to(points)
    optimizer = torch.optim.LBFGS([free], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        scores = points @ shortened(free).T
        loss = functional.cross_entropy((scores - lead) / temperature, labels)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    rows = shortened(free.detach()) * (1.0 - 1e-6)  # rounding to float32 keeps them below 1
    return LinearHead(rows, rows.new_zeros(num_classes))


def shortened(rows: Tensor) -> Tensor:
    """Scale rows that are longer than 1 to a norm of 1.

    Args:
        rows: (K, d).

    Returns:
        (K, d).
    """
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1.0)
