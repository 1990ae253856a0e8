"""Find the tensors of a network in a file by their names and shapes, under whatever prefix."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustcl.core.checks import COUNTER
from robustcl.models.weights.contents import StoredNetwork, Tensors, without_wrappers

# Second networks that follow the first, by a part of their prefix: not what one evaluates.
FOLLOWERS = frozenset({
    *("encoder_k", "momentum_backbone", "momentum_encoder", "backbone_momentum"),
    *("encoder_momentum", "target_encoder", "target_network", "target_net", "target_backbone"),
})
# What is not the encoder, by the first word of a key: heads, what second networks compare with,
# and counts that profilers leave behind.
_HEADS = (
    *("fc.", "classifier.", "head.", "heads.", "head_dist.", "projector.", "projection_head."),
    *(
        "linear.",
        "last_linear.",
        "predictor.",
        "decoder_embed.",
        "decoder_blocks.",
        "mask_token",
        "decoder_pos_embed",
        "decoder_norm.",
        "decoder_pred.",
        "prediction_head.",
        "prototypes.",
    ),
    *("momentum_projector.", "momentum_classifier.", "projection_head_momentum."),
    *("momentum_backbone.", "momentum_encoder.", "encoder_k.", "target_encoder."),
    *("backbone_momentum.", "queue", "queue_ptr"),
)
_COUNTS = ("total_ops", "total_params")
_LONGEST = 2000  # signs of a key


@dataclass(frozen=True)
class Naming:
    """Say how a program names the tensors of a network.

    Args:
        rule: In words, after "names as"; '' where they are the network's own names.
        spell: The network's name of a tensor to the program's.
        objection: Why this naming is of another function than the network's, although its tensors
            fit; '' where it is not.
    """

    rule: str
    spell: Callable[[str], str]
    objection: str = ""


@dataclass(frozen=True, eq=False)
class Match:
    """Say which tensors of a file are which of a network.

    Args:
        source: Where they lie.
        prefix: What stands before each key, as in 'backbone.'; '' for nothing.
        naming: How they are named below it.
        names: By key, the network's name of the tensor; those of the right shape.
        reshaped: By name, the key whose tensor has another shape, with both shapes.
        missing: Names without a tensor, counters left out.
    """

    source: StoredNetwork
    prefix: str
    naming: Naming
    names: dict[str, str]
    reshaped: dict[str, str]
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network is there, in its shape."""
        return not self.missing and not self.reshaped

    @property
    def place(self) -> str:
        """Where the network lies, as `--network` names it."""
        return ".".join(filter(None, [self.source.place, self.prefix.rstrip(".")]))

    @property
    def rest(self) -> list[str]:
        """Keys of the same state dict that are not of this network."""
        placed = {*self.names, *(text.partition(": ")[0] for text in self.reshaped.values())}
        return [key for key in self.source.tensors if key not in placed]


def namings_of(network: nn.Module) -> list[Naming]:
    """List the ways in which programs are known to name a network's tensors.

    Args:
        network: The network.

    Returns:
        Its own names first; then those of residual networks whose shortcut is called `shortcut`
        and whose classifier is called `linear`; then children by number, as in
        `nn.Sequential(*list(network.children())[:-1])`.
    """
    found = [Naming("", lambda name: name), Naming(_SHORTCUT, _of_shortcuts)]
    children = dict(network.named_children())
    if len(children) < 2 or all(name.isdecimal() for name in children):
        return found
    bare = [name for name, child in children.items() if next(child.parameters(), None) is not None]
    pools = {n for n, child in children.items() if isinstance(child, nn.MaxPool2d | nn.Identity)}
    lists = {
        "children by number": list(children),
        "children by number, pooling left out": [n for n in children if n not in pools],
        "children by number, those with weights only": bare,
    }
    pooled = isinstance(children.get("maxpool"), nn.MaxPool2d)
    for rule, names in lists.items():
        objection = ""
        if rule != "children by number" and names == list(children):
            continue
        if rule.endswith("left out") and pooled:
            objection = "the file numbers its layers as where there is no max-pooling"
        if rule.endswith("only") and _has_activation(children):
            objection = "the file numbers its layers as where no activation follows the stem"
        for shortcut in (False, True):
            words = f"{rule}; {_SHORTCUT}" if shortcut else rule
            found.append(Naming(words, _by_number(names, shortcut=shortcut), objection))
    return found


_SHORTCUT = "downsample is called shortcut, fc linear"


def _of_shortcuts(name: str) -> str:
    return re.sub(r"^fc\.", "linear.", name.replace(".downsample.", ".shortcut."))


def _by_number(names: Sequence[str], *, shortcut: bool) -> Callable[[str], str]:
    numbers = {name: str(number) for number, name in enumerate(names)}

    def spell(name: str) -> str:
        first, dot, rest = name.partition(".")
        spelled = numbers.get(first, first) + dot + rest
        return spelled.replace(".downsample.", ".shortcut.") if shortcut else spelled

    return spell


def _has_activation(children: Mapping[str, nn.Module]) -> bool:
    # Whether the network does something without weights between its first layers.
    relu = children.get("relu")
    return not isinstance(relu, nn.Identity)


def matches(
    wanted: Mapping[str, Tensor], networks: Iterable[StoredNetwork], namings: Sequence[Naming]
) -> list[Match]:
    """Find where in a file a network lies.

    A prefix is taken for what stands before a network where names and shapes of all its tensors
    agree below it; nothing else is guessed.

    Args:
        wanted: The network's tensors, by name; their values do not matter.
        networks: Those of the file.
        namings: How they may be named.

    Returns:
        Complete matches; where there is none, the incomplete one that places most tensors, if any.
    """
    shapes = {name: tuple(value.shape) for name, value in wanted.items()}
    parts: list[Match] = []
    for source in networks:
        for naming in namings:
            spelled = {naming.spell(without_wrappers(name)): name for name in shapes}
            for prefix in _prefixes(source.tensors, spelled):
                found = _match(source, prefix, naming, spelled, shapes)
                if not (found.complete and any(_same(found, other) for other in parts)):
                    parts.append(found)
    complete = [found for found in parts if found.complete]
    return complete or sorted(parts, key=lambda found: -len(found.names))[:1]


def _match(
    source: StoredNetwork,
    prefix: str,
    naming: Naming,
    spelled: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> Match:
    names: dict[str, str] = {}
    reshaped: dict[str, str] = {}
    missing: list[str] = []
    for text, name in spelled.items():
        key = prefix + text
        if key not in source.tensors:
            if name.rpartition(".")[2] != COUNTER:
                missing.append(name)
        elif tuple(source.tensors[key].shape) != shapes[name]:
            reshaped[name] = f"{key}: {tuple(source.tensors[key].shape)} for {shapes[name]}"
        else:
            names[key] = name
    return Match(source, prefix, naming, names, reshaped, tuple(missing))


def _prefixes(tensors: Tensors, spelled: Mapping[str, str]) -> list[str]:
    # What may stand before the names: what stands before one of a few that are told apart best.
    found: dict[str, None] = {}
    anchors = sorted(spelled, key=lambda text: (-text.count("."), -len(text), text))[:3]
    for anchor in (*anchors, *list(spelled)[:1]):
        for key in tensors:
            if len(key) <= _LONGEST and (key == anchor or key.endswith(f".{anchor}")):
                found[key[: len(key) - len(anchor)]] = None
    return list(found)


def _same(one: Match, other: Match) -> bool:
    # One network may be saved under two names, as by a module that holds it twice.
    if set(one.names.values()) != set(other.names.values()):
        return False
    keys = {name: key for key, name in other.names.items()}
    pairs = ((one.source.tensors[k], other.source.tensors[keys[n]]) for k, n in one.names.items())
    return all(a is b or (a.dtype == b.dtype and torch.equal(a, b)) for a, b in pairs)


def chosen(found: Sequence[Match], wanted: str | None) -> list[Match]:
    """Leave out matches that are not meant.

    Args:
        found: Complete matches.
        wanted: What `--network` says: the place of a network, or a part of it; None for nothing.

    Returns:
        Those at that place. Without a word about it, networks that follow another one of the same
        state dict, as momentum encoders do, are left out.
    """
    if wanted is not None:
        exact = [match for match in found if match.place == wanted]
        parts = [match for match in found if _within(wanted, match.place)]
        return exact or parts
    leaders = [m for m in found if not FOLLOWERS & set(m.prefix.split("."))]
    return leaders or list(found)


def _within(wanted: str, place: str) -> bool:
    return f".{wanted.strip('.')}." in f".{place.replace('[', '.[')}.".replace("..", ".") or (
        f".{wanted.strip('.')}." in f".{place}."
    )


def is_head(name: str) -> bool:
    """Tell whether a key below a network's prefix belongs to a head.

    Args:
        name: The key without the prefix.

    Returns:
        Whether its first word is that of a head.
    """
    return any(name.startswith(word) if word.endswith(".") else name == word for word in _HEADS)


def is_count(name: str) -> bool:
    """Tell whether a key is a count that a profiler left behind.

    Args:
        name: The key.

    Returns:
        Whether its last word is that of one.
    """
    return name.rpartition(".")[2] in _COUNTS
