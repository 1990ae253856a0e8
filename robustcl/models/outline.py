"""Build a network without its numbers, and within bounds, to see what it would need."""

import ctypes
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from robustcl.core.checks import is_plain
from robustcl.core.errors import InputError
from robustcl.models.architectures import build_backbone, is_factory
from robustcl.models.encoders import ARCHITECTURES
from robustcl.models.hub_networks import HUBS

_PARTS = 40  # modules and tensors registered for each tensor that is given, at most
FREE_PARTS = 10_000  # what may be registered besides
_TIMES = 8  # numbers of the network for each number that is given, at most
FREE_NUMBERS = 2**24  # what it may have besides
_MOST = 2**16  # of any number among the arguments of a library's network
_PATIENCE = 20.0  # seconds; the largest networks of timm take 2


class TooLargeError(BaseException):
    """Stop a constructor; no handler in a library takes this for an error of its own."""


def outline(
    architecture: str,
    arguments: Mapping[str, Any],
    given: Mapping[str, Tensor],
    *,
    whole: bool = False,
    layer: str = "",
) -> nn.Module | None:
    """Build a network on torch's meta device, where tensors have shapes and take no memory.

    Args:
        architecture: As in `build_backbone`.
        arguments: Its keyword arguments.
        given: The tensors that it is to be filled with, under any names.
        whole: As in `build_backbone`.
        layer: Likewise.

    Returns:
        The network; None for a factory, whose code is the caller's own, and where a constructor
        looks at numbers, which the meta device has not: that one was built within the same bounds.

    Raises:
        InputError: When the network would have far more tensors or numbers than are given, or takes
            too long to build, or cannot be built.
    """
    if is_factory(architecture):
        return None
    if architecture not in ARCHITECTURES and architecture.partition(":")[0] not in HUBS:
        _check_counts(arguments, architecture)
    try:
        try:
            with torch.device("meta"):
                return _built(architecture, arguments, given, whole=whole, layer=layer)
        except InputError:  # also of what only the meta device cannot do
            _built(architecture, arguments, given, whole=whole, layer=layer)
            return None
    except (TooLargeError, RuntimeError) as error:  # build_backbone lets memory's end pass
        text = repr(dict(arguments))
        text = text if len(text) <= 200 else f"{text[:200]}..."
        what = error if isinstance(error, TooLargeError) else "does not fit into memory"
        raise InputError(
            f"architecture {architecture[:80]!r} with arguments {text} {what}; give the arguments "
            "that the weights were made with"
        ) from None


def _check_counts(arguments: object, where: str) -> None:
    # A library may make a list of so many parts before it makes the first part.
    if isinstance(arguments, Mapping):
        for key, value in arguments.items():
            _check_counts(value, f"argument {key!r} of {where}")
    elif isinstance(arguments, list | tuple):
        for value in arguments:
            _check_counts(value, where)
    elif isinstance(arguments, int | float) and not abs(arguments) <= _MOST:
        raise InputError(f"{where} is {arguments:g}, more than {_MOST}; give that of the weights")


def _built(
    architecture: str,
    arguments: Mapping[str, Any],
    given: Mapping[str, Tensor],
    *,
    whole: bool,
    layer: str,
) -> nn.Module:
    most = _PARTS * len(given) + FREE_PARTS
    there = sum(value.numel() for value in given.values() if is_plain(value))
    seen = {"parts": 0, "numbers": 0}

    def register(owner: nn.Module, name: str, part: nn.Module | Tensor | None) -> None:
        del owner, name
        seen["parts"] += 1
        if isinstance(part, Tensor):
            seen["numbers"] += part.numel()
        if seen["parts"] > most:
            raise TooLargeError(f"has far more layers than the {len(given)} tensors of the file")
        if seen["numbers"] > _TIMES * there + FREE_NUMBERS:
            raise TooLargeError(f"has far more weights than the {there:,} numbers of the file")

    hooks = [
        registration.register_module_parameter_registration_hook(register),
        registration.register_module_buffer_registration_hook(register),
        registration.register_module_module_registration_hook(register),
    ]
    try:
        with _patience():
            return build_backbone(architecture, arguments, whole=whole, layer=layer)
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _patience() -> Iterator[None]:
    # A constructor may loop over the pixels of an image whose size the file states.
    own, ended = ctypes.c_ulong(threading.get_ident()), threading.Event()
    lock = threading.Lock()

    def stop() -> None:
        with lock:
            if not ended.is_set():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(own, ctypes.py_object(_LateError))

    timer = threading.Timer(_PATIENCE, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            ended.set()
        # What was asked for is raised by now, at the latest above. It is never taken back: in
        # Python 3.11 that leaves a mark under which a traced function runs for ever.
        timer.cancel()


class _LateError(TooLargeError):
    def __init__(self) -> None:
        super().__init__(f"is not built in {_PATIENCE:.0f} s")


def outlined_size(network: nn.Module, image_shape: Sequence[int]) -> int | None:
    """Tell the size of a network's embeddings without computing a number.

    Args:
        network: On the meta device.
        image_shape: (C, H, W).

    Returns:
        d; None where the network does not take such images, or does what the meta device cannot.
    """
    try:
        with torch.no_grad(), torch.device("meta"):
            output = network.eval()(torch.zeros(2, *image_shape))
    except Exception:  # noqa: BLE001 of a library's code; the caller tries with numbers
        return None
    right = isinstance(output, Tensor) and output.ndim == 2 and output.shape[0] == 2
    return int(output.shape[1]) if right else None
