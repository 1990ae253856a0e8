"""Build a plain stack of layers from a list of them."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from robustcl.core.errors import InputError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "selu": nn.SELU,
    "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus, "relu6": nn.ReLU6, "hardtanh": nn.Hardtanh,
    "hardswish": nn.Hardswish, "mish": nn.Mish,
}  # fmt: skip
_MOST = 2**16  # of any number
_LONGEST = 1000  # layers
# What a layer takes besides its name: how many numbers, and how many of them may be left out.
_NUMBERS = {
    "conv": (6, 3), "linear": (3, 1), "flat_linear": (3, 1), "batch_norm": (1, 0),
    "max_pool": (2, 0), "avg_pool": (2, 0), "flatten": (0, 0), "identity": (0, 0),
    "global_avg_pool": (0, 0),
}  # fmt: skip


class FlatLinear(nn.Linear):
    """Apply a linear layer to images as rows of numbers."""

    def forward(self, input: Tensor) -> Tensor:
        """Flatten what comes in, and apply the layer.

        Args:
            input: (B, ...).

        Returns:
            (B, out).
        """
        return super().forward(input.flatten(1))


def stack(*, layers: Sequence[Sequence[str | int]]) -> nn.Sequential:
    """Build an `nn.Sequential`, whose tensors are named by the positions of their layers.

    Args:
        layers: One list per layer, its name first: `["conv", in, out, kernel, stride, padding,
            bias]` (stride 1, padding 0 and bias 1 may be left out), `["linear", in, out, bias]`,
            `["flat_linear", in, out, bias]`, which flattens first, `["batch_norm", channels]`,
            `["max_pool", kernel, stride]`, `["avg_pool", kernel, stride]`, `["global_avg_pool"]`,
            `["flatten"]`, `["identity"]`, or an activation such as `["relu"]`.

    Returns:
        The network.

    Raises:
        InputError: When a layer is unknown or has other numbers.
    """
    rows = list(layers)
    if not rows or len(rows) > _LONGEST:
        raise InputError(f"{len(rows)} layers; give 1 to {_LONGEST}")
    return nn.Sequential(*(_layer(row) for row in rows))


def _layer(row: Sequence[str | int]) -> nn.Module:
    words = [row] if isinstance(row, str) else list(row)
    name = str(words[0]) if words else ""
    if name in ACTIVATIONS and len(words) == 1:
        return ACTIVATIONS[name]()
    known = ", ".join([*_NUMBERS, *ACTIVATIONS])
    if name not in _NUMBERS:
        raise InputError(f"layer {words!r} is not known; known are {known}")
    most, free = _NUMBERS[name]
    numbers = [number for number in words[1:] if type(number) is int and 0 <= number <= _MOST]
    if len(numbers) < len(words) - 1 or not most - free <= len(numbers) <= most:
        raise InputError(f"layer {words!r} takes {most - free} to {most} whole numbers")
    if name == "conv":
        into, out, kernel = numbers[:3]
        stride, padding, bias = (*numbers[3:], *(1, 0, 1)[len(numbers) - 3 :])
        _positive(words, into, out, kernel, stride)
        return nn.Conv2d(into, out, kernel, stride, padding, bias=bool(bias))
    if name in ("linear", "flat_linear"):
        _positive(words, *numbers[:2])
        kind = nn.Linear if name == "linear" else FlatLinear
        return kind(*numbers[:2], bias=numbers[2:] != [0])
    _positive(words, *numbers)
    if name == "batch_norm":
        return nn.BatchNorm2d(numbers[0])
    if name == "max_pool":
        return nn.MaxPool2d(numbers[0], numbers[1])
    if name == "avg_pool":
        return nn.AvgPool2d(numbers[0], numbers[1])
    return {
        "flatten": nn.Flatten,
        "identity": nn.Identity,
        "global_avg_pool": lambda: nn.AdaptiveAvgPool2d(1),
    }[name]()


def _positive(words: Sequence[object], *numbers: int) -> None:
    if min(numbers, default=1) < 1:
        raise InputError(f"layer {words!r} has a 0 where a positive number stands")
