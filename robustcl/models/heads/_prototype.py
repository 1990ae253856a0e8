"""Classify by similarity to the mean embedding of each class."""

import torch
from torch import Tensor, nn

from robustcl.core.abstention import on_sphere
from robustcl.core.errors import InputError


class PrototypeHead(nn.Module):
    """Score classes by cosine similarity to their prototypes.

    Args:
        weight: (K, d) prototypes; the rows are normalized in float64.

    Raises:
        InputError: When the weight is not a matrix, or a row is zero or not finite.
    """

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        if weight.ndim != 2:
            raise InputError(f"prototypes of shape {tuple(weight.shape)}; expected (K, d)")
        norms = torch.linalg.vector_norm(weight.double(), dim=1, keepdim=True)
        if not bool((torch.isfinite(norms) & (norms > 0)).all()):
            bad = int(torch.nonzero(~(torch.isfinite(norms) & (norms > 0)))[0, 0])
            raise InputError(f"the prototype of class {bad} is zero or not finite")
        self.register_buffer("weight", (weight.double() / norms).to(torch.float32))

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.weight)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return the prototypes as a linear map without offset.

        Returns:
            W (K, d) and b = 0 (K,).
        """
        return self.weight, self.weight.new_zeros(len(self.weight))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return similarities in [-1, 1], which are also the confidences.

        Args:
            embeddings: (B, d) unit vectors.

        Returns:
            (B, K).
        """
        return embeddings @ self.weight.to(embeddings.dtype).T


def prototype(embeddings: Tensor, labels: Tensor, *, num_classes: int) -> PrototypeHead:
    """Fit the prototypes: the normalized mean of each class's unit embeddings.

    Args:
        embeddings: (N, d) embeddings; normalized here.
        labels: (N,) classes.
        num_classes: K.

    Returns:
        The head.

    Raises:
        InputError: When a class has no example, a label is outside the classes, or an embedding has
            no direction.

    Reference:
        Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017, equation 1, on
        the unit sphere.
    """
    check_labels(embeddings, labels, num_classes)
    units = unit_embeddings(embeddings)
    sums = units.new_zeros(num_classes, units.shape[1]).index_add_(0, labels, units)
    counts = torch.bincount(labels, minlength=num_classes)
    if not bool(counts.all()):
        missing = int(torch.nonzero(counts == 0)[0, 0])
        raise InputError(f"class {missing} has no training example; every class needs one")
    return PrototypeHead(sums / counts[:, None])


def unit_embeddings(embeddings: Tensor) -> Tensor:
    """Divide embeddings by their norms.

    Args:
        embeddings: (N, d) finite raw embeddings.

    Returns:
        (N, d) float64 unit vectors.

    Raises:
        InputError: When an embedding is 0, which has no direction.
    """
    units = on_sphere(embeddings.double())
    if not bool(torch.isfinite(units).all()):
        row = int(torch.nonzero(~torch.isfinite(units).all(dim=1))[0, 0])
        raise InputError(f"the embedding of image {row} is 0; leave the image out")
    return units


def check_labels(embeddings: Tensor, labels: Tensor, num_classes: int) -> None:
    """Refuse labels that do not fit the embeddings or the classes.

    Args:
        embeddings: (N, d).
        labels: (N,) classes.
        num_classes: K.

    Raises:
        InputError: When the counts differ, labels are no whole numbers, one is outside 0..K-1, or
            an embedding is not finite.
    """
    if embeddings.ndim != 2 or labels.shape != (len(embeddings),) or not len(labels):
        raise InputError(
            f"embeddings of shape {tuple(embeddings.shape)} with labels of shape "
            f"{tuple(labels.shape)}; expected (N, d) and (N,), N >= 1"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"labels are {labels.dtype}; give whole numbers, as in labels.long()")
    if not bool(torch.isfinite(embeddings).all()):
        row = int(torch.nonzero(~torch.isfinite(embeddings).all(dim=1))[0, 0])
        raise InputError(f"the embedding of image {row} is not finite; leave the image out")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise InputError(f"label {wrong} is outside the {num_classes} classes 0..{num_classes - 1}")
