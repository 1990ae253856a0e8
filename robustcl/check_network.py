"""Refuse networks that cannot be attacked or copied in float64, and tell the type of the others."""

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from robustcl.errors import InputError


def check_network(network: nn.Module, *, what: str = "network") -> None:
    """Refuse a network whose weights have no numbers, no gradient or no common type.

    Args:
        network: The network.
        what: What it is, for messages.

    Raises:
        InputError: When it is no module, is frozen TorchScript, or has weights that are lazy, on
            the meta device, made in `torch.inference_mode`, complex, or of several types.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"the {what} is a {type(network).__name__}; give an nn.Module")
    if isinstance(network, torch.jit.ScriptModule) and not hasattr(network, "training"):
        raise InputError(
            f"the {what} is frozen TorchScript, whose weights are constants that cannot be copied "
            "in float64; give it as it was before torch.jit.freeze"
        )
    for name, weight in _named_weights(network):
        _check_weight(f"{name!r} of the {what}", weight)
    kinds: dict[torch.dtype, str] = {}
    for name, weight in network.named_parameters():
        if weight.is_floating_point():
            kinds.setdefault(weight.dtype, name)
    if len(kinds) > 1:
        mixed = " and ".join(f"{_short(kind)} ({name!r})" for kind, name in kinds.items())
        raise InputError(f"the {what} mixes weights of {mixed}; use {what}.float(), or .half()")


def weight_type(network: nn.Module) -> torch.dtype | None:
    """Tell the floating-point type of a network's weights.

    Args:
        network: A network of one type, as `check_network` sees to.

    Returns:
        The type of the first parameter, else of the first buffer; None without either.
    """
    weights = (weight for _, weight in _named_weights(network))
    return next((weight.dtype for weight in weights if weight.is_floating_point()), None)


def weight_device(network: nn.Module) -> torch.device:
    """Tell where a network computes.

    Args:
        network: The network.

    Returns:
        The device of its first parameter or buffer; the CPU without either.
    """
    return next((weight.device for _, weight in _named_weights(network)), torch.device("cpu"))


def _named_weights(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(network.named_parameters(), network.named_buffers())


def _check_weight(name: str, weight: Tensor) -> None:
    if is_lazy(weight):
        raise InputError(f"{name} is lazy and has no shape yet; call the module once")
    if weight.is_meta:
        raise InputError(f"{name} is on the meta device and holds no numbers; load its weights")
    if weight.is_inference():
        raise InputError(
            f"{name} was made in torch.inference_mode, so no gradient can pass "
            "by it; build or load the network outside of it"
        )
    if weight.is_complex():
        raise InputError(
            f"{name} is {_short(weight.dtype)}, which has no float64 copy; keep "
            "real and imaginary parts as two weights"
        )


def _short(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
