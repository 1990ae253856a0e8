"""Bound the Lipschitz constant from the image to every step of a network."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from robustcl.certify.bounds.plain_modules import OTHER_METHODS
from robustcl.certify.graph import Network
from robustcl.certify.lowering.export import BATCH, exported
from robustcl.certify.lowering.lower import is_known, lowered
from robustcl.certify.norms import check_certified_norm
from robustcl.certify.ops.patches import Field
from robustcl.certify.ops.spectral_norm import spectral_norm
from robustcl.certify.rounding import round_up
from robustcl.core.choices import CertifiedNorm
from robustcl.core.errors import UnsupportedError
from robustcl.core.modules import exact_copy
from robustcl.models.inference_views import LinearView


def layer_lipschitz_bound(
    layer: nn.Module, input_shape: Sequence[int], *, norm: CertifiedNorm
) -> float:
    """Bound |layer(x) - layer(y)| / |x - y| over all x, y in eval mode.

    Args:
        layer: A layer, or several of them; left as it was.
        input_shape: Shape of one input, without the batch.
        norm: 'l2' or 'linf', at the input and at the output.

    Returns:
        An upper bound in float64, never an estimate.

    Raises:
        UnsupportedError: When the layer has no known bound.
    """
    double = exact_copy(layer)
    with torch.inference_mode(False), torch.no_grad():
        inputs = torch.rand(BATCH, *input_shape, dtype=torch.float64)
        network = lowered(exported(double, inputs, is_known=is_known), cure=OTHER_METHODS)
    if output_leap(network):
        raise UnsupportedError("the layer jumps, so that it has no Lipschitz constant")
    return prefix_norms(network, norm=norm)[-1]


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


def view_norm(view: LinearView, *, norm: CertifiedNorm) -> float:
    """Bound |V v| over |v| = 1 for the view's linear part v -> R v C^T.

    The norm of a map along both axes is the product of the matrices' norms: their largest singular
    values in L2, their largest sums of absolute values in a row in Linf. It is 1 for flips, shifts
    with zero fill and noise; in L2 a bilinear crop that stretches has more.

    Args:
        view: The view, with the weights as stored.
        norm: 'l2' or 'linf'.

    Returns:
        The bound, rounded up.
    """
    check_certified_norm(norm)
    size = 1.0
    for matrix in (view.rows, view.columns):
        if matrix is not None:
            size *= _matrix_norm(matrix.detach().double(), norm)
    return round_up(size)


def _matrix_norm(matrix: Tensor, norm: CertifiedNorm) -> float:
    if norm == "l2":
        return spectral_norm(matrix)
    return round_up(float(matrix.abs().sum(dim=1).max()))


def receptive_fields(network: Network) -> dict[int, Field] | None:
    """Find the fields of the last step's numbers in every step that they depend on.

    Args:
        network: The steps.

    Returns:
        Fields by the positions of steps; None where a step before does not act on every patch
        alike, as a dense layer, pooling or a constant does.
    """
    last = len(network.steps) - 1
    fields = {last: Field((0, 0), (1, 1), (1, 1))}
    for position in range(last, -1, -1):
        if position not in fields:
            continue
        step, own = network.steps[position], fields[position]
        read = step.operation.reads(own) if len(step.shape) == 3 else None
        for source in step.sources:
            held = fields.get(source, read)
            both = None if read is None or held is None else read.joined(held)
            if both is None:
                return None
            fields[source] = both
        if read is None:
            return None
    return fields


def numbers_seen(network: Network, fields: Mapping[int, Field]) -> int:
    """Count the numbers of the widest step that one number of the last one depends on.

    Args:
        network: The steps.
        fields: From `receptive_fields`.

    Returns:
        Their number, zero padding included.
    """
    return max(network.steps[p].shape[0] * math.prod(f.size) for p, f in fields.items())
