"""Copy a model in float64: the network in nearly real arithmetic, which certificates are about."""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from robustcl.errors import UnsupportedError
from robustcl.rows_seen import RowCounter

Module = TypeVar("Module", bound=nn.Module)
CONTAINERS = (list, tuple, set, dict)


def exact_copy(module: Module) -> Module:
    """Copy a module with all its floating-point numbers in float64, in eval mode.

    A network that keeps an activation on itself (`self.last = h`) is copied too: what is kept is
    copied as a number without its history. What counts forward passes (`rows_seen`) is left out.

    Args:
        module: The module; left as it was.

    Returns:
        The copy; its parameters want no gradient.

    Raises:
        UnsupportedError: When the module cannot be copied.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        _without_history(vars(part), memo)
    try:
        with torch.inference_mode(False), torch.no_grad():
            copied = copy.deepcopy(module, memo).double().eval().requires_grad_(False)
    except Exception as error:  # copying runs the network's own code
        raise UnsupportedError(
            f"{type(module).__name__} cannot be copied in float64 ({error}); remove what cannot be "
            "copied (locks, files, generators) from the network"
        ) from error
    _drop_counters(copied)
    return copied


def _drop_counters(module: nn.Module) -> None:
    for part in module.modules():
        for key, hook in list(part._forward_hooks.items()):
            if isinstance(hook, RowCounter):
                del part._forward_hooks[key]


def _without_history(value: Any, memo: dict[int, Any], depth: int = 4) -> None:
    # Say what stands for each tensor that was computed from others, which deepcopy refuses.
    if isinstance(value, Tensor):
        if not value.is_leaf or value.is_inference():
            memo[id(value)] = value.detach().clone()
    elif isinstance(value, CONTAINERS) and depth:
        for entry in value.values() if isinstance(value, dict) else value:
            _without_history(entry, memo, depth - 1)
