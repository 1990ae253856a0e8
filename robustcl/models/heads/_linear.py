"""Classify by a linear probe on the embedding."""

import numpy as np
import torch
from torch import Tensor, nn

from robustcl.core.errors import InputError
from robustcl.models.heads._prototype import check_labels, unit_embeddings


class LinearHead(nn.Module):
    """Score classes by W f + b.

    Args:
        weight: W (K, d).
        bias: b (K,).

    Raises:
        InputError: When the shapes do not match or a value is not finite.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        if weight.ndim != 2 or bias.shape != (len(weight),):
            raise InputError(
                f"weight {tuple(weight.shape)} with bias {tuple(bias.shape)}; expected (K, d), (K,)"
            )
        if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise InputError("the linear head has values that are not finite; fit it again")
        self.register_buffer("weight", weight.detach().to(torch.float32))
        self.register_buffer("bias", bias.detach().to(torch.float32))

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.weight)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return the linear map.

        Returns:
            W (K, d) and b (K,).
        """
        return self.weight, self.bias

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return logits.

        Args:
            embeddings: (B, d).

        Returns:
            (B, K).
        """
        weight, bias = (part.to(embeddings.dtype) for part in (self.weight, self.bias))
        return nn.functional.linear(embeddings, weight, bias)


def linear(
    embeddings: Tensor, labels: Tensor, *, num_classes: int, weight_decay: float = 1e-4
) -> LinearHead:
    """Fit a multinomial logistic regression on unit embeddings.

    Scikit-learn's L-BFGS finds the one optimum, so no seed, rate or number of epochs enters.

    Args:
        embeddings: (N, d) embeddings; normalized here.
        labels: (N,) classes; every class 0..K-1 must occur.
        num_classes: K >= 2.
        weight_decay: Factor of |W|^2 / 2 beside the mean cross-entropy.

    Returns:
        The head.

    Raises:
        InputError: When a class is missing, a label is outside the classes, or an embedding has no
            direction.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    check_labels(embeddings, labels, num_classes)
    present = int(labels.unique().numel())
    if present != num_classes or num_classes < 2:
        raise InputError(f"{present} of {num_classes} classes have examples; need all, and two")
    if not weight_decay > 0:
        raise InputError(f"weight_decay {weight_decay} is not positive; try 1e-4")
    units = unit_embeddings(embeddings)
    regression = LogisticRegression(C=1.0 / (weight_decay * len(units)), max_iter=2000)
    regression.fit(units.cpu().numpy(), labels.cpu().numpy())
    weight, bias = np.asarray(regression.coef_), np.asarray(regression.intercept_)
    if num_classes == 2:  # one row for the pair: split it evenly
        weight, bias = np.vstack([-weight, weight]) / 2, np.hstack([-bias, bias]) / 2
    return LinearHead(torch.from_numpy(weight), torch.from_numpy(bias))
