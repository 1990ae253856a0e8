"""Classify by the nearest training embeddings."""

import torch
from torch import Tensor, nn

from robustcl.core.errors import InputError
from robustcl.models.heads._prototype import check_labels, unit_embeddings


class KNNHead(nn.Module):
    """Score classes by weighted votes of the k most similar embeddings.

    Args:
        bank: (N, d) unit embeddings.
        labels: (N,) their classes.
        k: Neighbors that vote.
        num_classes: K.
        temperature: A neighbor of similarity s votes with exp(s / temperature).

    Raises:
        InputError: When there are fewer than k embeddings or the temperature is not positive.

    Reference:
        Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination,
        CVPR 2018, section 3.4.
    """

    bank: Tensor
    labels: Tensor

    def __init__(
        self, bank: Tensor, labels: Tensor, *, k: int, num_classes: int, temperature: float = 0.1
    ) -> None:
        super().__init__()
        check_labels(bank, labels, num_classes)
        if not 1 <= k <= len(bank):
            raise InputError(f"k {k} is not between 1 and the {len(bank)} embeddings in the bank")
        if not temperature > 0:
            raise InputError(f"temperature {temperature} is not positive; try 0.1")
        self.register_buffer("bank", bank.to(torch.float32))
        self.register_buffer("labels", labels.to(torch.int64))
        self.k = k
        self.num_classes = num_classes
        self.temperature = temperature

    def affine(self) -> None:
        """Return nothing: votes are not an affine function of the embedding."""
        return

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return each class's share of the votes.

        Args:
            embeddings: (B, d) unit vectors.

        Returns:
            (B, K) shares in [0, 1]; attacks get their gradient through the similarities.
        """
        similarities, rows = (embeddings @ self.bank.to(embeddings.dtype).T).topk(self.k, dim=1)
        weights = torch.softmax(similarities / self.temperature, dim=1)
        shares = weights.new_zeros(len(weights), self.num_classes)
        return shares.scatter_add(1, self.labels[rows], weights)


def knn(
    embeddings: Tensor, labels: Tensor, *, num_classes: int, k: int = 200, temperature: float = 0.1
) -> KNNHead:
    """Keep the training embeddings as a bank of neighbors.

    Args:
        embeddings: (N, d) embeddings; normalized here.
        labels: (N,) classes.
        num_classes: K.
        k: Neighbors that vote; at most N.
        temperature: Sharpness of the votes.

    Returns:
        The head.
    """
    check_labels(embeddings, labels, num_classes)
    units = unit_embeddings(embeddings).to(torch.float32)
    voters = min(k, len(units))
    return KNNHead(units, labels, k=voters, num_classes=num_classes, temperature=temperature)
