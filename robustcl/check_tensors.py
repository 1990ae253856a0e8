"""Refuse stored tensors that are not the numbers of the network they are meant for."""

import torch
from torch import Tensor

# A buffer whose name ends so is a count: files that are older than BatchNorm's counter lack it.
COUNTER = "num_batches_tracked"
VARIANCE = "running_var"


def is_plain(value: Tensor) -> bool:
    """Tell whether a tensor is numbers in memory.

    Args:
        value: The tensor.

    Returns:
        False for one that is sparse, nested, quantized, or on the meta device.
    """
    return not (
        value.is_meta or value.is_nested or value.is_quantized or value.layout != torch.strided
    )


def objection_to_numbers(value: Tensor, name: str) -> str | None:
    """Say why no network may be filled with a tensor, whatever its shape and type.

    Args:
        value: The tensor.
        name: Its name.

    Returns:
        The reason; None where there is none.
    """
    if value.is_meta:
        return "is on the meta device and holds no numbers"
    if not is_plain(value):
        return "is sparse, nested or quantized, not a plain tensor"
    if value.is_floating_point():
        # The types of eight bits have no test of their own.
        wide = value.to(torch.float64) if value.element_size() == 1 else value
        if not bool(torch.isfinite(wide).all()):
            return "has NaN or infinite values"
        if name.rpartition(".")[2] == VARIANCE and bool((wide < 0).any()):
            return f"is a variance and has the negative value {float(wide.min()):g}"
    return None


def objection_to_type(value: Tensor, wanted: Tensor) -> str | None:
    """Say why a tensor is of the wrong kind for its place.

    Floating-point numbers go to floating-point places, where they are converted. Counters, indices
    and masks keep their type.

    Args:
        value: The tensor.
        wanted: The network's own tensor.

    Returns:
        The reason; None where there is none.
    """
    if value.dtype == wanted.dtype:
        return None
    if value.is_floating_point() and wanted.is_floating_point():
        return None
    return f"is {short(value.dtype)}, but the network has {short(wanted.dtype)} there"


def exactly(value: Tensor, kind: torch.dtype) -> Tensor | None:
    """Convert a floating-point tensor to another type where no number is rounded.

    Args:
        value: Finite numbers.
        kind: The type.

    Returns:
        The numbers in that type; None where one of them is not representable.
    """
    if value.dtype == kind:
        return value
    converted = value.to(kind)
    same = bool((converted.to(torch.float64) == value.to(torch.float64)).all())
    return converted if same else None


def short(kind: torch.dtype) -> str:
    """Name a type without the word torch.

    Args:
        kind: The type.

    Returns:
        As in 'float32'.
    """
    return str(kind).removeprefix("torch.")
