"""Freeze modules, keep them as they were, and copy them exactly."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from robustcl.core.batching import ForwardPassCounter
from robustcl.core.errors import UnsupportedError
from robustcl.core.memory import is_out_of_memory


@contextmanager
def eval_mode(module: nn.Module | None) -> Iterator[None]:
    """Put a module into eval mode and stop gradients of its weights, and restore both on exit.

    Args:
        module: The module, which is changed only within the context; None for none.

    Yields:
        Nothing.
    """
    if module is None:
        yield
        return
    modes = [(part, part.training) for part in module.modules()]
    weights = (weight for weight in module.parameters() if not weight.is_inference())
    wanted = [(weight, weight.requires_grad) for weight in weights]
    try:
        module.eval()
        for weight, _ in wanted:
            weight.requires_grad_(False)
        yield
    finally:
        for part, training in modes:
            part.training = training
        for weight, wants in wanted:
            weight.requires_grad_(wants)


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Undo on exit what calls change: modes, buffers, attributes, and torch's random generators.

    Lists and objects that a network fills are not emptied.

    Args:
        network: The network.

    Yields:
        Nothing.
    """
    parts = list(network.modules())
    modes = [(part, part.training) for part in parts]
    plain = [part for part in parts if not isinstance(part, torch.jit.ScriptModule)]
    attributes = [(part, _plain_attributes(part), dict(part._buffers)) for part in plain]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    places = {weight.device for weight in network.parameters() if weight.is_cuda}
    try:
        with torch.random.fork_rng(devices=list(places)):
            yield
    finally:
        for part, kept, entries in attributes:
            for name in set(_plain_attributes(part)) - set(kept):
                del part.__dict__[name]
            part.__dict__.update(kept)
            part._buffers.clear()
            part._buffers.update(entries)
        for part, training in modes:
            part.training = training
        _restore(buffers)


def _plain_attributes(part: nn.Module) -> dict[str, object]:
    return {name: value for name, value in vars(part).items() if not name.startswith("_")}


def _restore(buffers: list[tuple[Tensor, Tensor]]) -> None:
    with torch.inference_mode(False), torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


Module = TypeVar("Module", bound=nn.Module)
_DEPTH = 4  # of lists within objects within attributes in which tensors are looked for
_CURE = "remove what cannot be copied (locks, files, generators) from the network"


def exact_copy(module: Module) -> Module:
    """Copy a module with all its floating-point numbers in float64, in eval mode.

    A network that keeps an activation on itself (`self.last = h`) is copied too: what is kept is
    copied as a number without its history, and tensors that are no buffers are in float64 too. What
    counts forward passes (`rows_seen`) is left out.

    Args:
        module: The module; left as it was.

    Returns:
        The copy; its parameters want no gradient.

    Raises:
        UnsupportedError: When the module cannot be copied, or not in float64.
    """
    try:
        with torch.inference_mode(False), torch.no_grad():
            memo: dict[int, Any] = {}
            for part in module.modules():
                _without_history(_attributes(part), memo)
            copied = copy.deepcopy(module, memo).double().eval()
            for weight in copied.parameters():
                weight.requires_grad_(False)
    except Exception as error:  # copying runs the network's own code
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise UnsupportedError(
            f"{type(module).__name__} cannot be copied in float64 ({reason}); {_CURE}"
        ) from error
    _check_double(copied)
    _drop_counters(copied)
    return copied


def _drop_counters(module: nn.Module) -> None:
    for part in module.modules():
        for key, hook in list(part._forward_hooks.items()):
            if isinstance(hook, ForwardPassCounter):
                del part._forward_hooks[key]


def _attributes(part: nn.Module) -> dict[str, Any]:
    # Parameters and buffers of TorchScript are copied with it, and cannot be read from here.
    if isinstance(part, torch.jit.ScriptModule):
        return {}
    return {name: value for name, value in vars(part).items() if name != "_modules"}


def _without_history(value: Any, memo: dict[int, Any], depth: int = _DEPTH) -> None:
    # Say what stands for each tensor: deepcopy refuses those that were computed from others, and
    # double() leaves out those that are neither parameters nor buffers.
    if isinstance(value, nn.Parameter):
        return
    if isinstance(value, Tensor):
        plain = value.detach().clone()
        memo[id(value)] = plain.double() if plain.is_floating_point() else plain
    elif depth:
        for entry in _entries(value):
            _without_history(entry, memo, depth - 1)


def _entries(value: Any) -> Iterable[Any]:
    if isinstance(value, nn.Module | type):
        return ()
    found = value.values() if isinstance(value, dict) else ()
    found = value if isinstance(value, list | tuple | set) else found
    return chain(found, vars(value).values() if hasattr(value, "__dict__") else ())


def _check_double(copied: nn.Module) -> None:
    for name, weight in chain(copied.named_parameters(), copied.named_buffers()):
        if weight.is_complex() or (weight.is_floating_point() and weight.dtype != torch.float64):
            raise UnsupportedError(
                f"{name!r} stays {weight.dtype} in a float64 copy; keep the network from "
                "overriding .double(), and complex weights as two real ones"
            )
