"""Say which pixels of a step the pixels of a later step depend on."""

from dataclasses import dataclass

_Two = tuple[int, int]


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

    start: _Two
    stride: _Two
    size: _Two

    def read_by(self, kernel: _Two, stride: _Two, padding: _Two) -> "Field":
        """Return the field in the input of an operation whose output this field is of.

        Args:
            kernel: Pixels from the first to the last that one output reads, along each axis.
            stride: Pixels of the input from one output to the next.
            padding: Zeros before the first pixel.

        Returns:
            The field.
        """
        starts, strides, sizes = [], [], []
        for axis in range(2):
            step = stride[axis]
            starts.append(self.start[axis] * step - padding[axis])
            strides.append(self.stride[axis] * step)
            sizes.append((self.size[axis] - 1) * step + kernel[axis])
        return Field(_two(starts), _two(strides), _two(sizes))

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


def _two(values: list[int]) -> _Two:
    return values[0], values[1]
