"""Build a plain `nn.Sequential` from the shapes of its tensors, and ask for what shapes hide.

Keys that are positions (`0.weight`, `2.weight`) say where layers with weights stand, and the gaps
where others do. Which activation it is, and strides and paddings of convolutions, are in no file:
they have to be stated, as in `stack:relu,stride=2,padding=1`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robustcl.core.errors import CheckpointError
from robustcl.models.encoders.stacked import ACTIVATIONS
from robustcl.models.weights.contents import StoredNetwork, Tensors

NAME = "stack"
_SIDES = (28, 32, 64, 96, 128, 224)
_POOLS = {"max": "max_pool", "avg": "avg_pool"}
_MOST = 64  # of a stride or a padding
Layer = list[str | int]
_ImageShape = tuple[int, int, int]


@dataclass(frozen=True)
class Stack:
    """Hold what the shapes of a file say.

    Args:
        prefix: What stands before the positions.
        layers: By position, a convolution (out, in, kernel), a matrix (out, in) or BatchNorm
            (channels), as the shape of its weight; and whether it has a bias.
    """

    prefix: str
    layers: tuple[tuple[int, tuple[int, ...], bool], ...]

    @property
    def convolutions(self) -> list[tuple[int, tuple[int, ...], bool]]:
        """The convolutions."""
        return [row for row in self.layers if len(row[1]) == 4]

    def __str__(self) -> str:
        words = {4: "convolution", 2: "linear", 1: "BatchNorm"}
        parts = [
            f"{number}: {words[len(shape)]} {'x'.join(map(str, shape))}"
            for number, shape, _ in self.layers
        ]
        return ", ".join(parts)


def read_stack(network: StoredNetwork) -> Stack | None:
    """See whether the tensors of a file are those of a plain stack of layers.

    Args:
        network: The tensors.

    Returns:
        Its layers; None where keys are no positions, or shapes do not follow each other.
    """
    tensors = network.tensors
    prefixes = {_split(key)[0] for key in tensors}
    if len(prefixes) != 1 or any(_split(key)[1] is None for key in tensors):
        return None
    prefix = prefixes.pop()
    rows = []
    for number in sorted({_split(key)[1] or 0 for key in tensors}):
        own: Tensors = {
            key.rpartition(".")[2]: value
            for key, value in tensors.items()
            if key.startswith(f"{prefix}{number}.")
        }
        weight = own.get("weight")
        shapes = {4, 2} if "running_mean" not in own else {1}
        if weight is None or weight.ndim not in shapes or set(own) - _PARTS:
            return None
        if weight.ndim == 4 and weight.shape[2] != weight.shape[3]:
            return None
        rows.append((number, tuple(int(n) for n in weight.shape), "bias" in own))
    return Stack(prefix, tuple(rows)) if rows and _follows(rows) else None


_PARTS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def _split(key: str) -> tuple[str, int | None]:
    head, _, _ = key.rpartition(".")
    prefix, _, number = head.rpartition(".")
    if not (number.isascii() and number.isdecimal() and len(number) < 6):
        return prefix, None
    return f"{prefix}." if prefix else "", int(number)


def _follows(rows: Sequence[tuple[int, tuple[int, ...], bool]]) -> bool:
    # Whether each layer takes as many channels as the one before puts out; matrices come last.
    for (_, before, _), (_, after, _) in itertools.pairwise(rows):
        if len(after) == 4 and (len(before) == 2 or before[0] != after[1]):
            return False
        if len(after) == 1 and before[0] != after[0]:
            return False
        if len(after) == 2 and len(before) == 2 and before[0] != after[1]:
            return False
        if len(after) == 2 and len(before) != 2 and after[1] % before[0]:
            return False
    return len(rows[0][1]) != 1


def question_of(stack: Stack) -> str:
    """Say what has to be stated of a stack, with what would fit.

    Args:
        stack: The stack.

    Returns:
        A sentence that names the option.
    """
    begin = f"the file looks like a plain stack of layers ({stack})"
    if not stack.convolutions:
        return f"{begin}; its activation is in no file: state it, as in --arch '{NAME}:relu'"
    fits = [
        f"stride={stride},padding={padding} for {side}x{side} images"
        for side in sorted(_SIDES, key=lambda side: side == 28 and stack.layers[0][1][1] > 1)
        for stride, padding in _choices(stack)
        if _features(stack, side, stride, padding) is not None
    ]
    fitting = (
        f"; of one stride and padding for all, these fit: {'; '.join(fits[:4])}" if fits else ""
    )
    example = fits[0].partition(" for ")[0] if fits else "stride=1,padding=0"
    return (
        f"{begin}; its activation, strides and paddings are in no file: state them, as in --arch "
        f"'{NAME}:relu,{example}'{fitting}"
    )


def _choices(stack: Stack) -> list[tuple[int, int]]:
    kernel = max(shape[2] for _, shape, _ in stack.convolutions)
    return [(s, p) for s in range(1, kernel + 1) for p in range(kernel // 2 + 1)]


def _features(stack: Stack, side: int, stride: int, padding: int) -> int | None:
    # Side after all convolutions, where what follows takes as many features.
    for _, shape, _ in stack.convolutions:
        side = (side + 2 * padding - shape[2]) // stride + 1
        if side < 1:
            return None
    last = stack.convolutions[-1][1]
    after = next((shape for _, shape, _ in stack.layers if len(shape) == 2), None)
    return side if after is not None and after[1] == last[0] * side * side else None


def stack_arguments(
    text: str, stack: Stack, image_shape: _ImageShape | None
) -> tuple[dict[str, Any], _ImageShape]:
    """Turn what a user states of a stack into the arguments of `stack`.

    Gaps of the positions are filled: one place is the activation; two between a convolution and a
    matrix are the activation and the flattening; a further one is a pooling, which has to be
    stated as `pool=max2` or `avg2`. A gap before the first matrix is the flattening.

    Args:
        text: As in 'stack:relu,stride=2,padding=1'; several convolutions may have several
            strides, as in 'stride=1/2'.
        stack: The stack.
        image_shape: (C, H, W) of the images; None where it is to be found from the shapes.

    Returns:
        Arguments, and the shape of the images.

    Raises:
        CheckpointError: When an option is unknown or lacking, or shapes do not fit.
    """
    activation, _, options = text.partition(":")[2].partition(",")
    said: dict[str, str] = {}
    for part in filter(None, options.split(",")):
        key, _, value = part.partition("=")
        said[key] = value
    unknown = set(said) - {"stride", "padding", "pool"}
    if activation not in ACTIVATIONS or unknown:
        raise CheckpointError(
            f"--arch {text!r}: known are {NAME}:ACTIVATION with stride, padding and pool, and the "
            f"activations {', '.join(ACTIVATIONS)}"
        )
    if stack.convolutions and not {"stride", "padding"} <= set(said):
        raise CheckpointError(question_of(stack))
    strides = _per_layer(said.get("stride", "1"), stack, "stride")
    paddings = _per_layer(said.get("padding", "0"), stack, "padding")
    pool = _pool(said["pool"]) if "pool" in said else None
    layers = _layers(stack, activation, strides, paddings, pool)
    return {"layers": layers}, image_shape or _found_shape(stack, layers)


def _layers(
    stack: Stack,
    activation: str,
    strides: list[int],
    paddings: list[int],
    pool: tuple[str, int] | None,
) -> list[Layer]:
    layers, flat, place, seen = list[Layer](), False, 0, 0
    for index, (number, weight, bias) in enumerate(stack.layers):
        wants_flat = len(weight) == 2 and not flat
        gap = number - place
        if gap == 0 and index and len(weight) != 1:
            raise CheckpointError(
                f"layers {number - 1} and {number} of the stack follow each other without a place "
                "for an activation, so it may be called in the code of the network; write its "
                "class in a file, and give --arch FILE.py:factory"
            )
        bare = wants_flat and index == 0 and gap == 0  # what calls the stack flattens images
        flatten = wants_flat and not bare
        layers += _filled(gap, activation, pool, first=index == 0, flatten=flatten)
        flat = flat or wants_flat
        if len(weight) == 4:
            numbers = (weight[1], weight[0], weight[2], strides[seen], paddings[seen])
            layers.append(["conv", *numbers, int(bias)])
            seen += 1
        elif len(weight) == 2:
            name = "flat_linear" if bare else "linear"
            layers.append([name, weight[1], weight[0], int(bias)])
        else:
            layers.append(["batch_norm", weight[0]])
        place = number + 1
    return layers


def _per_layer(value: str, stack: Stack, what: str) -> list[int]:
    parts = value.split("/")
    count = len(stack.convolutions)
    if not all(part.isdecimal() for part in parts) or len(parts) not in (1, count):
        raise CheckpointError(f"{what}={value}: give one whole number, or {count} with / between")
    numbers = [int(part) for part in parts]
    least = int(what == "stride")
    if min(numbers) < least or max(numbers) > _MOST:
        raise CheckpointError(f"{what}={value}: give numbers from {least} to {_MOST}")
    return numbers * (count if len(parts) == 1 else 1)


def _pool(text: str) -> tuple[str, int]:
    kind, size = text[:3], text[3:]
    if kind not in _POOLS or not size.isdecimal() or not 1 <= int(size) <= _MOST:
        raise CheckpointError(f"pool={text}: write max2 or avg2")
    return _POOLS[kind], int(size)


def _filled(
    gap: int,
    activation: str,
    pool: tuple[str, int] | None,
    *,
    first: bool,
    flatten: bool,
) -> list[Layer]:
    # The layers without weights in a gap.
    room = gap - int(flatten)
    layers: list[Layer] = []
    if not first and room >= 1:
        layers.append([activation])
        room -= 1
    if room >= 1 and pool is not None:
        layers.append([pool[0], pool[1], pool[1]])
        room -= 1
    short = flatten and not first and not layers  # an activation, or the flattening, but not both
    if room != 0 or short:
        filling = ["an activation", *(["a pooling"] if pool else []),
                   *(["the flattening"] if flatten else [])]  # fmt: skip
        raise CheckpointError(
            f"{gap} places between two layers of the stack are not what {' and '.join(filling)} "
            "fill; state pool=max2, or write its class in a file, and give --arch FILE.py:factory"
        )
    return [*layers, ["flatten"]] if flatten else layers


def _found_shape(stack: Stack, layers: list[Layer]) -> _ImageShape:
    first = stack.layers[0][1]
    if len(first) == 2:
        for channels in (1, 3):
            side = math.isqrt(first[1] // channels)
            if channels * side * side == first[1]:
                return channels, side, side
        raise CheckpointError(
            f"the first layer takes {first[1]} numbers, which are no square image of 1 or 3 "
            "channels; state --input-size CxHxW"
        )
    fitting = [side for side in range(4, 257) if _fits(layers, side)]
    if not fitting:
        raise CheckpointError(
            f"no square image of up to 256 pixels fits these strides and paddings ({stack}); "
            "state others"
        )
    usual = [side for side in fitting if side in _SIDES] or fitting
    return first[1], usual[0], usual[0]


def _fits(layers: list[Layer], side: int) -> bool:
    channels = 0
    for layer in layers:
        name, numbers = layer[0], [number for number in layer[1:] if isinstance(number, int)]
        if name == "conv":
            channels = numbers[1]
            side = (side + 2 * numbers[4] - numbers[2]) // numbers[3] + 1
        elif name in _POOLS.values():
            side = (side - numbers[0]) // numbers[1] + 1
        elif name == "linear":
            return numbers[0] == channels * side * side
        if side < 1:
            return False
    return True
