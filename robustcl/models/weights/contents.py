"""Find the networks in what a weight file holds."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from torch import Tensor

from robustcl.core.errors import CheckpointError
from robustcl.core.terminal import printable

Tensors = dict[str, Tensor]
SHOWN, MENTIONED = 60, 8  # signs of a name, and names, in a message
_DEEPEST = 6  # tables within tables
# Entries beside the weights that hold tensors of their own, by the start of their name.
_OTHERS = (
    *("optim", "scheduler", "lr_sched", "lr_", "scaler", "amp", "rng", "callbacks", "loops"),
    *("hparams", "hyper_parameters", "criterion", "loss", "dino_loss", "ibot_loss", "grad"),
)
# Parts of keys that wrappers put into them, wherever they stand.
_WRAPPERS = frozenset({
    *("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
    *("_forward_module", "_fpw_module"),
})


class FaultError(Exception):
    """Say what is wrong with a file, in words that follow its name."""


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """Hold the tensors of one network, or of several that share a state dict.

    Args:
        place: Where it lies in the file, as in 'state_dict[0]'; '' for the file itself.
        tensors: By key, without the parts that wrappers (`module`, `_orig_mod`) put into it.
        keys: By that key, the one in the file.
        said: Figures beside the weights, such as an accuracy or an epoch, by name.
    """

    place: str
    tensors: Tensors
    keys: dict[str, str]
    said: dict[str, float] = field(default_factory=dict)


def networks_in(content: object) -> list[StoredNetwork]:
    """Find every state dict in what a file holds.

    A table of tensors is one. Tables and lists are entered, but for what optimizers, schedulers and
    losses keep; where a table has tensors of its own beside larger tables of them, as queues stand
    beside a state dict, those are left aside.

    Args:
        content: As `torch.load(weights_only=True)` or safetensors give it.

    Returns:
        At least one.

    Raises:
        FaultError: When there is none, saying what there is instead.
    """
    found = list(_networks(content, "", set(), 0))
    if found:
        said = _figures(content)
        return [_unwrapped(place, tensors, said) for place, tensors in found]
    if _is_optimizer(content) or _holds_optimizer(content):
        raise FaultError(
            "holds the state of an optimizer and no weights; give the file that was written by "
            "model.state_dict()"
        )
    if isinstance(content, Tensor):
        raise FaultError("holds one tensor without a name; save a state_dict()")
    if isinstance(content, list | tuple) and any(isinstance(part, Tensor) for part in content):
        raise FaultError(
            f"holds a list of {len(content)} tensors without names, so it is not known which is "
            "which; save a state_dict()"
        )
    raise FaultError("holds no tensors by name; save a state_dict()")


def _networks(
    content: object, place: str, above: set[int], depth: int
) -> Iterator[tuple[str, Tensors]]:
    # A table may hold itself: those that were entered are not entered again.
    if depth > _DEEPEST or id(content) in above:
        return
    inside: list[tuple[str, Tensors]] = []
    if isinstance(content, list | tuple):
        for number, part in enumerate(content):
            if isinstance(part, Mapping):
                inside += _networks(part, f"{place}[{number}]", above | {id(content)}, depth + 1)
    if not isinstance(content, Mapping) or _is_optimizer(content):
        yield from inside
        return
    own = _named(content)
    for key, value in content.items():
        name = str(key)
        if isinstance(value, Mapping | list | tuple) and not name.lower().startswith(_OTHERS):
            inner = f"{place}.{name}" if place else name
            inside += _networks(value, inner, above | {id(content)}, depth + 1)
    if own and len(own) >= max((len(tensors) for _, tensors in inside), default=0):
        yield place, own
    else:
        yield from inside


def _named(content: Mapping[object, object]) -> Tensors:
    given = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    strange = next((key for key in given if type(key) not in (str, int)), None)
    if strange is not None:
        raise FaultError(f"has a tensor under a {type(strange).__name__}; name tensors by texts")
    found = {str(key): value for key, value in given.items()}
    if len(found) < len(given):
        raise FaultError("has two tensors of one name, a text and a number; save a state_dict()")
    return found


def _is_optimizer(content: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(content, Mapping) and {"state", "param_groups"} <= set(content)


def _holds_optimizer(content: object) -> bool:
    return isinstance(content, Mapping) and any(_is_optimizer(part) for part in content.values())


_FIGURE = re.compile(r"acc|prec|top_?[15]|err|epoch|best", re.IGNORECASE)


def _figures(content: object) -> dict[str, float]:
    # Numbers on the top of a file that say how good the model was, or how far it was trained.
    if not isinstance(content, Mapping):
        return {}
    found: dict[str, float] = {}
    for key, value in content.items():
        number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if _FIGURE.search(str(key)) and math.isfinite(number) and len(found) < MENTIONED:
            found[str(key)[:SHOWN]] = float(number)
    return found


def _unwrapped(place: str, tensors: Tensors, said: dict[str, float]) -> StoredNetwork:
    keys: dict[str, str] = {}
    for key in tensors:
        plain = without_wrappers(key)
        if plain in keys:
            raise FaultError(
                f"has two tensors {printable(plain[:SHOWN])!r}, one of them wrapped "
                f"({printable(key[:SHOWN])!r}); save one network"
            )
        keys[plain] = key
    return StoredNetwork(place, {plain: tensors[key] for plain, key in keys.items()}, keys, said)


def without_wrappers(key: str) -> str:
    """Leave out the parts of a key that wrappers of networks put there.

    Args:
        key: As in 'module.layer1._orig_mod.weight'.

    Returns:
        As in 'layer1.weight'.
    """
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS) or key


def only_network(networks: list[StoredNetwork]) -> StoredNetwork:
    """Return the network of a file that holds one.

    Args:
        networks: As found.

    Returns:
        It.

    Raises:
        CheckpointError: When there are several.
    """
    if len(networks) > 1:
        raise CheckpointError(
            f"there are {len(networks)} networks, {places_text(networks)}; choose one, as in "
            f"--network '{networks[0].place}'"
        )
    return networks[0]


def places_text(networks: list[StoredNetwork]) -> str:
    """List networks in a message.

    Args:
        networks: As found.

    Returns:
        Their places, with numbers of tensors.
    """
    shown = [
        f"{printable(one.place[:SHOWN])!r} ({len(one.tensors)} tensors)"
        for one in networks[:MENTIONED]
    ]
    return ", ".join(shown) + (", ..." if len(networks) > MENTIONED else "")
