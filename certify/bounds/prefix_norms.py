"""Bound the Lipschitz constant from the image to every step of a network."""

import math

from robustcl.certify.graph import Network
from robustcl.certify.rounding import round_up
from robustcl.core.choices import CertifiedNorm


def prefix_norms(network: Network, *, norm: CertifiedNorm) -> tuple[float, ...]:
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
        inputs = [found[source] for source in step.sources]
        with step.at():
            found.append(step.operation.lipschitz_from_image(inputs, norm))
    return tuple(found)


def output_leap(network: Network) -> float:
    """Bound by how much the last step's values differ from those without the operations' leaps.

    Each leap grows by at most the norms of the steps after it.

    Args:
        network: The steps.

    Returns:
        An upper bound in L2, at any image; 0 where nothing leaps.
    """
    after = [0.0] * len(network.steps)
    after[-1], total = 1.0, 0.0
    for position in range(len(network.steps) - 1, -1, -1):
        step = network.steps[position]
        if step.operation.leap and after[position]:
            size = math.sqrt(math.prod(step.shape)) * step.operation.leap
            total = round_up(total + after[position] * size)
        for source in step.sources:
            factor = step.operation.lipschitz("l2")
            after[source] = round_up(after[source] + after[position] * factor)
    return total
