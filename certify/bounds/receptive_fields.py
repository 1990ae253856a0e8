"""Find the pixels inside a network that one number of a later step depends on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from robustcl.certify.bounds.operations.activation import Activation
from robustcl.certify.bounds.operations.affine import Affine, Sliding
from robustcl.certify.bounds.operations.joining import Concatenation, Image, Sum
from robustcl.certify.bounds.trace import Network

Two = tuple[int, int]


@dataclass(frozen=True)
class Field:
    """Say which pixels of a step the pixel (i, j) of a later step depends on.

    Along each axis those from start + stride * i on, `size` of them; some may lie outside of the
    image, where zero padding is.

    Args:
        start: Of pixel (0, 0).
        stride: From one pixel to the next.
        size: Pixels along each axis.
    """

    start: Two
    stride: Two
    size: Two

    def read_by(self, sliding: Sliding) -> "Field":
        """Return the field in the input of an operation whose output this field is of.

        Args:
            sliding: How the operation acts on patches.

        Returns:
            The field.
        """
        start, stride, size = [], [], []
        for axis in range(2):
            step = sliding.stride[axis]
            start.append(self.start[axis] * step - sliding.padding[axis])
            stride.append(self.stride[axis] * step)
            size.append((self.size[axis] - 1) * step + sliding.kernel[axis])
        return Field(_two(start), _two(stride), _two(size))

    def joined(self, other: "Field") -> "Field | None":
        """Return the smallest field that holds both.

        Args:
            other: In the same step.

        Returns:
            The field; None where their strides differ.
        """
        if self.stride != other.stride:
            return None
        start = [min(pair) for pair in zip(self.start, other.start, strict=True)]
        ends = [
            max(a + n, b + m)
            for a, n, b, m in zip(self.start, self.size, other.start, other.size, strict=True)
        ]
        size = [end - first for end, first in zip(ends, start, strict=True)]
        return Field(_two(start), self.stride, _two(size))


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
        read = own if len(step.shape) == 3 else None
        if read is not None and isinstance(step.operation, Affine):
            sliding = step.operation.sliding
            read = None if sliding is None else own.read_by(sliding)
        elif not isinstance(step.operation, Activation | Sum | Image) and not (
            isinstance(step.operation, Concatenation) and step.operation.axis == 0
        ):
            read = None
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


def _two(values: list[int]) -> Two:
    return values[0], values[1]
