"""Bound the operator norm, or the Lipschitz constant, of one layer from above."""

import copy
from collections.abc import Sequence

from torch import nn

from robustcl.certify.bounds.lower import lower_layer
from robustcl.certify.norms import Norm
from robustcl.encoders.max_min import MaxMin
from robustcl.errors import UnsupportedError


def layer_norm(layer: nn.Module, input_shape: Sequence[int], *, norm: Norm) -> float:
    """Bound |layer(x) - layer(y)| / |x - y| over all x, y in eval mode.

    Args:
        layer: A layer of torch.nn, or MaxMin; subclasses are refused, as they may differ.
        input_shape: Shape of one input, without the batch.
        norm: 'l2' or 'linf', at the input and at the output.

    Returns:
        An upper bound in float64, never an estimate.

    Raises:
        UnsupportedError: When the layer has no known bound.
    """
    if type(layer) is MaxMin:
        return 1.0
    shape = tuple(input_shape)
    double = copy.deepcopy(layer).double()
    operation = lower_layer(double, shape, shape)
    if operation.leap:
        raise UnsupportedError(f"{operation.title} jumps, so that it has no Lipschitz constant")
    return operation.lipschitz(norm)
