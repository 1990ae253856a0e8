"""Bound the Lipschitz constant of an encoder by the product of its layers' norms."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcl.certify.bounds.layers import output_leap, prefix_norms
from robustcl.certify.bounds.tracing import trace
from robustcl.certify.graph import Network
from robustcl.certify.norms import check_certified_norm
from robustcl.certify.ops.affine import Affine
from robustcl.certify.rounding import SQUARES, length, round_up, row_lengths
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Encoder
from robustcl.core.hashes import network_hash


@dataclass(frozen=True, eq=False)
class NetworkLipschitzBound:
    """Bound an encoder's raw embedding h, with its last affine operations kept apart.

    Args:
        norm: CertifiedNorm of the perturbation, p.
        prefix: Bound from the image to the input of the last affine operations, p to p.
        last: These operations, the last one first; empty where the network ends otherwise.
        total: Bound of h from p to L2.
        spatial: For Linf, the L2 bound and sqrt(D), whose product is a second bound.
        network: The steps; None for a bound that is scaled.
        weights: Hash of the encoder's numbers (see `network_hash`); '' where it is not known.
        leap: All this is about h up to so much in L2, at any image: where a layer jumps, as
            Softplus does at its threshold, its smooth form is bounded.
    """

    norm: CertifiedNorm
    prefix: float
    last: tuple[Affine, ...]
    total: float
    spatial: "tuple[NetworkLipschitzBound, float] | None" = None
    network: Network | None = None
    weights: str = ""
    leap: float = 0.0

    def along(self, directions: Tensor) -> Tensor:
        """Bound the Lipschitz constant of a.h for each direction a.

        Args:
            directions: (..., d) float64.

        Returns:
            (...) upper bounds in the dual norm, rounded up.
        """
        rows = directions.flatten(0, -2)
        lost = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        for operation in self.last:
            size = length(rows)
            lost = operation.norms["l2"] * lost + operation.rounding * operation.magnitude * size
            rows = operation.transpose(rows)
        rows = rows.flatten(1)
        order = 2.0 if self.norm == "l2" else 1.0
        lost = lost * (1.0 if self.norm == "l2" else math.sqrt(rows.shape[1]))
        size = torch.linalg.vector_norm(rows, order, dim=1) + SQUARES + lost
        bound = (size * round_up(self.prefix)).unflatten(0, directions.shape[:-1])
        if self.spatial is None:
            return bound
        other, root = self.spatial
        return torch.minimum(bound, other.along(directions) * root)


def network_lipschitz_bound(
    encoder: Encoder, *, norm: CertifiedNorm = "l2"
) -> NetworkLipschitzBound:
    """Bound |h(x) - h(y)| over all images, from the layers' guaranteed norms.

    The network is exported (see `trace`, also for what is refused). Norms multiply along a chain,
    add at a residual sum, and combine at a concatenation.

    Args:
        encoder: The encoder; left as it was.
        norm: 'l2' or 'linf', in pixel units at the input.

    Returns:
        The bound.
    """
    check_certified_norm(norm)
    return replace(
        prepared_lipschitz_bound(trace(encoder), norm=norm), weights=network_hash(encoder)
    )


def prepared_lipschitz_bound(network: Network, *, norm: CertifiedNorm) -> NetworkLipschitzBound:
    """Bound the Lipschitz constant of a traced network.

    Args:
        network: From `trace`.
        norm: 'l2' or 'linf'.

    Returns:
        The bound.
    """
    last, position = _tail(network)
    prefix = prefix_norms(network, norm="l2")
    total, leap = prefix[-1], output_leap(network)
    if norm == "l2":
        return NetworkLipschitzBound(
            "l2", prefix[position], last, total, network=network, leap=leap
        )
    other = NetworkLipschitzBound("l2", prefix[position], last, total)
    root = round_up(math.sqrt(math.prod(network.steps[0].shape)))
    prefix = prefix_norms(network, norm="linf")
    total = min(total * root, prefix[position] * _wide_norm(network, position, prefix))
    return NetworkLipschitzBound(
        "linf", prefix[position], last, round_up(total), (other, root), network, "", leap
    )


def _tail(network: Network) -> tuple[tuple[Affine, ...], int]:
    # The affine operations that h ends with, and the position before them.
    last: list[Affine] = []
    position = len(network.steps) - 1
    while (operation := network.steps[position].operation.affine) is not None:
        last.append(operation)
        (position,) = network.steps[position].sources
    return tuple(last), position


def _wide_norm(network: Network, position: int, prefix: tuple[float, ...]) -> float:
    # Bound the last affine operations from Linf to L2: by the l1 norms of the rows of their
    # product, and by the L2 norm over the root of its inputs' number.
    last, _ = _tail(network)
    shape = network.steps[position].shape
    if not last:
        return math.sqrt(math.prod(shape))
    ones = torch.ones(1, *shape, dtype=torch.float64, device=network.device)
    spectral = math.sqrt(math.prod(shape))
    for operation in reversed(last):
        ones = operation.absolute(ones)
        spectral *= operation.norms["l2"]
    return round_up(min(float(row_lengths(ones.flatten())), spectral))
