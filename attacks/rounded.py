"""Carry out a computation with every operand a little off, to see what rounding does to it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SIZE = 512.0  # units of rounding, at random sign and size; 590 half units in the mean
# Operations that give another view of their operand, whose changes in place must reach it.
_VIEWS = {
    *("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "contiguous"),
    *("transpose", "permute", "t", "movedim", "moveaxis", "swapaxes", "swapdims", "adjoint"),
    *("squeeze", "unsqueeze", "expand", "expand_as", "broadcast_to", "chunk", "split", "unbind"),
    *("narrow", "select", "diagonal", "tensor_split", "unfold", "__getitem__"),
    *("detach", "grad", "backward", "size", "dim", "numel", "is_floating_point", "is_complex"),
}


class Rounded(TorchFunctionMode):
    """Change every floating-point operand of every operation by up to `SIZE` units of rounding.

    The unit is that of the widest type among the operands, 2^-52 of the number in float64. This is
    Monte Carlo arithmetic: what a result is off by, compared with the undisturbed one, is what
    rounding errors of the same size do to it, cancellation included. Operations in place are let
    alone, since their operands come changed from elsewhere, and so is the inside of what runs as
    one compiled block.

    Args:
        seed: Seed of the changes.

    Reference:
        Parker, Monte Carlo Arithmetic, 1997.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch with changed operands.

        Args:
            func: The function.
            types: Types of the operands.
            args: Its arguments.
            kwargs: Its keywords.

        Returns:
            What it returns.
        """
        named, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if _in_place(name, named) or name in _VIEWS:
            return func(*args, **named)
        units = [torch.finfo(kind).eps for kind in _types([args, named])]
        size = SIZE * min(units, default=0.0)
        return func(*self._changed(args, size), **self._changed(named, size))

    def _changed(self, value: Any, size: float) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value * (1.0 + size * (2.0 * self._drawn(value) - 1.0))
        if isinstance(value, tuple):
            return tuple(self._changed(entry, size) for entry in value)
        if isinstance(value, list):
            return [self._changed(entry, size) for entry in value]
        if isinstance(value, dict):
            return {key: self._changed(entry, size) for key, entry in value.items()}
        return value

    def _drawn(self, value: Tensor) -> Tensor:
        device = value.device
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(self.seed)
        drawn = torch.empty(value.shape, dtype=value.dtype, device=device)
        return drawn.uniform_(generator=self.generators[device])


def _in_place(name: str, named: Mapping[str, Any]) -> bool:
    # Also attributes: their getters and setters are called `__get__` and `__set__`.
    written = name.startswith(("__i", "__set", "__get_"))
    return (
        written
        or name.endswith("_") != name.endswith("__")
        or bool(named.get("inplace") or named.get("out") is not None)
    )


def _types(value: Any) -> Iterator[torch.dtype]:
    # Of all floating-point numbers within.
    if isinstance(value, Tensor) and value.is_floating_point():
        yield value.dtype
    elif isinstance(value, tuple | list | dict):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _types(entry)
