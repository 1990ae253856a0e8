"""Refuse modules that do more, or something else, than their layers say."""

import copy
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules import module as module_globals
from torch.utils._python_dispatch import TorchDispatchMode

from robustcl.core.batching import ForwardPassCounter
from robustcl.core.errors import UnsupportedError
from robustcl.core.memory import is_out_of_memory

OTHER_METHODS = "smoothing:form=vote certifies any network, and first_order estimates"
GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks")
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
OWN_CALLS = ("__call__", "_call_impl", "_wrapped_call_impl")
OWN_COPIES = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__setstate__")
OURS = ("torch", "robustcl", "builtins", "typing")
_DRAWS = (
    f"the network draws random numbers in eval mode, perhaps not at every call. {OTHER_METHODS}"
)
SCALARS = (bool, int, float, str)


def check_plain(network: nn.Module, *, wants_eval: bool = False) -> None:
    """Refuse what changes a network besides its layers: hooks, replaced methods, compiled code.

    Args:
        network: The network, head included.
        wants_eval: Whether parts that stay in train mode are refused too.

    Raises:
        UnsupportedError: With the name of the part.
    """
    for name in GLOBAL_HOOKS:
        if getattr(module_globals, name):
            raise UnsupportedError(
                "forward hooks are set for all modules (torch.nn.modules.module), which tracing "
                f"cannot see; remove them. {OTHER_METHODS}"
            )
    for name, part in network.named_modules():
        _check_part(name or type(part).__name__, part)
        if wants_eval and part.training:
            raise UnsupportedError(
                f"{name or 'the network'!r} stays in train mode after eval(), where its outputs "
                f"depend on the batch; mend its train(). {OTHER_METHODS}"
            )


def _check_part(name: str, part: nn.Module) -> None:
    if isinstance(part, torch.jit.ScriptModule):
        raise UnsupportedError(
            f"{name!r} is a TorchScript module; give the nn.Module. {OTHER_METHODS}"
        )
    if getattr(part, "_compiled_call_impl", None) is not None or "_orig_mod" in part._modules:
        raise UnsupportedError(f"{name!r} is compiled; give the module itself. {OTHER_METHODS}")
    hooks = [hook for name in HOOKS for hook in getattr(part, name).values()]
    strange = [
        name for name in OWN_CALLS if getattr(type(part), name) is not getattr(nn.Module, name)
    ]
    strange += [name for name in OWN_COPIES if _is_defined(type(part), name)]
    if strange:
        raise UnsupportedError(
            f"{name!r} has a {strange[0]}() of its own, which tracing cannot see; move what it "
            f"does into forward(). {OTHER_METHODS}"
        )
    for key, value in (*part._parameters.items(), *part._buffers.items()):
        if value is not None and type(value) not in (torch.Tensor, nn.Parameter):
            raise UnsupportedError(
                f"{name}.{key} is a {type(value).__name__}, whose arithmetic may be its own; give "
                f"a plain tensor. {OTHER_METHODS}"
            )
    if any(type(hook) is not ForwardPassCounter for hook in hooks):
        raise UnsupportedError(
            f"{name!r} has forward hooks, which tracing cannot see; remove them. {OTHER_METHODS}"
        )
    replaced = sorted(key for key in vars(part) if _is_method(type(part), key))
    if replaced:
        raise UnsupportedError(
            f"{name!r} has its method {replaced[0]!r} replaced on the instance, which tracing "
            f"cannot see; write a module with that method. {OTHER_METHODS}"
        )


def _is_defined(kind: type, name: str) -> bool:
    # By a class that is not torch's.
    return any(
        name in vars(base) for base in kind.__mro__ if base.__module__.split(".")[0] not in OURS
    )


def _is_method(kind: type, key: str) -> bool:
    # Whether torch itself calls it by this name.
    return any(
        callable(vars(base).get(key))
        for base in kind.__mro__
        if base.__module__.split(".")[0] == "torch"
    )


@dataclass(frozen=True, eq=False)
class State:
    """Hold what a network must leave alone when it is called.

    Args:
        scalars: Plain attributes of its parts, by their names in the network.
        versions: How often each parameter was written to.
        buffers: Copies of the buffers, whose versions BatchNorm does not count.
        training: Whether each part is in train mode.
        draws: The states of the random generators of NumPy and Python; for torch's see `no_draws`.
    """

    scalars: Mapping[str, Any]
    versions: Mapping[str, int]
    buffers: Mapping[str, Tensor]
    training: Mapping[str, bool]
    draws: tuple[bytes, ...]


def state_of(network: nn.Module) -> State:
    """Note the state of a network before it is called.

    Args:
        network: The network.

    Returns:
        The state.
    """
    parts = dict(network.named_modules())
    scalars = {
        f"{name}.{key}".lstrip("."): value
        for name, part in parts.items()
        for key, value in vars(part).items()
        if type(value) in SCALARS
    }
    versions = {name: weight._version for name, weight in network.named_parameters()}
    buffers = {name: buffer.detach().clone() for name, buffer in network.named_buffers()}
    training = {name: part.training for name, part in parts.items()}
    return State(scalars, versions, buffers, training, _draws())


def check_still(network: nn.Module, before: State) -> None:
    """Refuse a network that draws random numbers or writes to itself when it is called.

    Activations that it keeps are no harm; numbers, texts, parameters and buffers are.

    Args:
        network: The network, after calls.
        before: From `state_of`.

    Raises:
        UnsupportedError: With the name of what has changed.
    """
    after = state_of(network)
    if after.draws != before.draws:
        raise UnsupportedError(_DRAWS)
    for what, old, new in (
        ("attribute", before.scalars, after.scalars),
        ("parameter", before.versions, after.versions),
        ("buffer", before.buffers, after.buffers),
        ("mode of", before.training, after.training),
    ):
        changed = [key for key in (*new, *old) if not _is_same(old.get(key), new.get(key))]
        if changed:
            raise UnsupportedError(
                f"the network changes its {what} {changed[0]!r} when it is called, so that the "
                f"next call may differ; remove that. {OTHER_METHODS}"
            )


class _Draws(TorchDispatchMode):
    # Notes random operations of this thread, whichever generator they use.

    def __init__(self) -> None:
        super().__init__()
        self.any = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        self.any = self.any or torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


@contextmanager
def no_draws() -> Iterator[None]:
    """Refuse a network that draws random numbers from torch within the context.

    Yields:
        Nothing.

    Raises:
        UnsupportedError: On exit.
    """
    with _Draws() as watch:
        yield
    if watch.any:
        raise UnsupportedError(_DRAWS)


def _is_same(old: Any, new: Any) -> bool:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return old.shape == new.shape and torch.equal(old.nan_to_num(), new.nan_to_num())
    return type(old) is type(new) and old == new


def check_values(network: nn.Module, inputs: Tensor) -> None:
    """Refuse a network whose code looks at the numbers it computes, and so may branch on them.

    A copy of it is called on tensors that have a shape and a type but no numbers: those of the
    device 'meta', or, where it holds tensors that stay elsewhere, torch's fake ones. The latter
    leave traces in the process: after them torch takes no gradients in forked children.

    Args:
        network: The network.
        inputs: What it takes.

    Raises:
        UnsupportedError: With torch's own words.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _call_without_numbers(network, inputs)
    except Exception as error:  # the network's own code runs
        if is_out_of_memory(error):
            raise
        words = str(error).strip().split("\n")[0] or type(error).__name__
        raise UnsupportedError(
            f"the network's code looks at the numbers it computes ({words}), so that it may do "
            f"something else for other images; write it without that. {OTHER_METHODS}"
        ) from error


def _call_without_numbers(network: nn.Module, inputs: Tensor) -> None:
    hollow = copy.deepcopy(network, _hollow(network)).to("meta")
    try:
        with torch.device("meta"):
            hollow(inputs.to("meta"))
        return
    except (RuntimeError, TypeError) as error:
        elsewhere = "device" in str(error) and "convert meta" not in str(error)
        if not elsewhere:
            raise
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        network(mode.from_tensor(inputs))


def _hollow(network: nn.Module) -> dict[int, Any]:
    # For deepcopy: tensors that are attributes, without their numbers.
    return {
        id(value): value.detach().to("meta")
        for part in network.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor)
    }


def _draws() -> tuple[bytes, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    numpy_state = np.asarray(keys).tobytes() + repr((name, rest)).encode()
    return numpy_state, repr(hash(random.getstate())).encode()
