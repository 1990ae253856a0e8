"""Find the pixels inside a network that one number of a later step depends on."""

import math
from collections.abc import Mapping

from robustcl.certify.graph import Network
from robustcl.certify.ops.patches import Field


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
