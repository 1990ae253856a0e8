"""Bound the operator norm, or the Lipschitz constant, of one layer from above."""

from collections.abc import Sequence

import torch
from torch import nn

from robustcl.certify.bounds.plain_modules import CURE
from robustcl.certify.bounds.prefix_norms import output_leap, prefix_norms
from robustcl.certify.lowering.export import BATCH, exported
from robustcl.certify.lowering.lower import is_known, lowered
from robustcl.core.choices import CertifiedNorm
from robustcl.core.errors import UnsupportedError
from robustcl.core.modules import exact_copy


def layer_norm(layer: nn.Module, input_shape: Sequence[int], *, norm: CertifiedNorm) -> float:
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
        network = lowered(exported(double, inputs, is_known=is_known), cure=CURE)
    if output_leap(network):
        raise UnsupportedError("the layer jumps, so that it has no Lipschitz constant")
    return prefix_norms(network, norm=norm)[-1]
