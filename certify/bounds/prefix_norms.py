"""Bound the Lipschitz constant from the image to every step of a network."""

import math

from robustcl.certify.bounds.dense_norm import round_up
from robustcl.certify.bounds.layer_norm import combined_norm
from robustcl.certify.bounds.lower import Operation
from robustcl.certify.bounds.operations.activation import Activation
from robustcl.certify.bounds.operations.affine import Affine
from robustcl.certify.bounds.operations.joining import (
    Concatenation,
    Constant,
    Image,
    MaxPool,
    Sum,
    max_pool_norm,
)
from robustcl.certify.bounds.trace import Network
from robustcl.certify.norms import Norm


def prefix_norms(network: Network, *, norm: Norm) -> tuple[float, ...]:
    """Multiply the layers' guaranteed norms from the image to every step.

    Norms multiply along a chain, add at a sum, and combine at a concatenation.

    Args:
        network: The steps.
        norm: p; both the image and the step are measured by it.

    Returns:
        One upper bound per step, in pixel units at the image.
    """
    found: list[float] = []
    for step in network.steps:
        found.append(_prefix(step.operation, [found[source] for source in step.sources], norm))
    return tuple(found)


def output_leap(network: Network) -> float:
    """Bound by how much the last step's values differ from those without the activations' leaps.

    Each leap grows by at most the norms of the steps after it.

    Args:
        network: The steps.

    Returns:
        An upper bound in L2, at any image; 0 where no activation leaps.
    """
    after = [0.0] * len(network.steps)
    after[-1], total = 1.0, 0.0
    for position in range(len(network.steps) - 1, -1, -1):
        step = network.steps[position]
        if isinstance(step.operation, Activation) and step.operation.leap and after[position]:
            size = math.sqrt(math.prod(step.shape)) * step.operation.leap
            total = round_up(total + after[position] * size)
        factor = operation_norm(step.operation, norm="l2")
        for source in step.sources:
            after[source] = round_up(after[source] + after[position] * factor)
    return total


def operation_norm(operation: Operation, *, norm: Norm) -> float:
    """Bound the Lipschitz constant of an operation with one input.

    Args:
        operation: The operation.
        norm: At its input and its output.

    Returns:
        An upper bound.
    """
    if isinstance(operation, Affine):
        return operation.norms[norm]
    if isinstance(operation, Activation):
        return operation.steepest
    if isinstance(operation, MaxPool) and norm == "l2":
        return max_pool_norm(operation)
    return 1.0


def _prefix(operation: Operation, sources: list[float], norm: Norm) -> float:
    if isinstance(operation, Image):
        return 1.0
    if isinstance(operation, Constant):
        return 0.0
    if isinstance(operation, Sum):
        return round_up(sum(sources))
    if isinstance(operation, Concatenation):
        return combined_norm(sources, norm=norm)
    return round_up(sources[0] * operation_norm(operation, norm=norm))
