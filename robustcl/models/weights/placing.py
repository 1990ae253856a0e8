"""Place the tensors of others in a network."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from robustcl.core.checks import COUNTER, exactly, objection_to_numbers, objection_to_type, short
from robustcl.core.errors import CheckpointError
from robustcl.core.terminal import printable
from robustcl.models.weights.contents import StoredNetwork, places_text
from robustcl.models.weights.matching import (
    Match,
    chosen,
    is_count,
    is_head,
    matches,
    namings_of,
)

_SHOWN = 200  # signs of a key in a message
_SEVERAL = 4  # names that a message lists


@dataclass(frozen=True)
class Placement:
    """Report where the keys of a weight file went.

    Args:
        network: Where the network lies in the file; '' for the file itself.
        rules: By key of the file, the tensor of the network that it fills.
        naming: How the file's names differ from the network's; '' where they do not.
        missing: Tensors of the network that the file lacks or has in another shape.
        dropped: Keys of the file that belong to a head or another network, which is not taken over.
        unplaced: Other keys of the file that fit nowhere.
        converted: What was converted from another type without rounding, a sentence each.
        notes: What was chosen of several networks, a sentence each.
    """

    network: str
    rules: dict[str, str]
    naming: str
    missing: tuple[str, ...]
    dropped: tuple[str, ...]
    unplaced: tuple[str, ...]
    converted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def placed(self) -> int:
        """Number of tensors that were loaded."""
        return len(self.rules)


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Return what a network is filled with.

    Args:
        network: The network.

    Returns:
        Its tensors by name.
    """
    return {k: v for k, v in network.state_dict().items() if isinstance(v, Tensor)}


def find_match(
    network: nn.Module,
    networks: Sequence[StoredNetwork],
    *,
    wanted: str | None = None,
    allow_partial: bool = False,
) -> Match:
    """Find the tensors of a network in a file.

    Args:
        network: The network; on the meta device too.
        networks: Those of the file.
        wanted: What `--network` says.
        allow_partial: Whether an incomplete match will do.

    Returns:
        The one match.

    Raises:
        CheckpointError: When there is none, or there are several, as with a teacher and a student,
            or the file's layers are named as those of another function.
    """
    found = chosen(matches(tensors_of(network), networks, namings_of(network)), wanted)
    if not found:
        where = f" at --network {wanted!r}" if wanted is not None else ""
        raise CheckpointError(
            f"no key fits{where}; the file holds {places_text(list(networks))}, with keys such as "
            f"{_some(tuple(networks[0].tensors))}; choose the right --arch"
        )
    if len(found) > 1 and found[0].complete:
        places = ", ".join(repr(printable(match.place[:_SHOWN])) for match in found[:_SEVERAL])
        raise CheckpointError(
            f"{len(found)} networks of the file fit: {places}; choose one, as in --network "
            f"'{printable(found[0].place[:_SHOWN])}'"
        )
    match = found[0]
    if match.naming.objection:
        raise CheckpointError(
            f"{match.naming.objection}, which is another function than the one that was named; "
            "choose the right --arch or --arguments"
        )
    if not match.names or not (match.complete or allow_partial):
        total = len(tensors_of(network))
        raise CheckpointError(
            f"{_problem(match.missing, _inside(match), match.reshaped, total) or 'no key fits'}; "
            "choose the right --arch, or add --allow-partial"
        )
    return match


def place_weights(
    network: nn.Module,
    match: Match,
    *,
    allow_partial: bool = False,
    known: Iterable[str] = (),
) -> Placement:
    """Load weights into a network.

    Args:
        network: Receives the weights; left as it was where they are refused.
        match: Which tensors are which, from `find_match`.
        allow_partial: Whether to go on where a tensor is missing or a key fits nowhere.
        known: Keys that fit nowhere and that the caller has made use of.

    Returns:
        The placement. Keys of a head (fc., projector., ...) are dropped and reported.

    Raises:
        CheckpointError: When something is missing or left over and `allow_partial` is off, or a
            tensor is of the wrong kind, would be rounded, or has values that are not finite.
    """
    wanted = tensors_of(network)
    placed: dict[str, Tensor] = {}
    converted: Counter[str] = Counter()
    for key, name in match.names.items():
        value = match.source.tensors[key]
        placed[name] = _converted(key, value, wanted[name])
        if placed[name].dtype != value.dtype:
            converted[f"{short(value.dtype)} to {short(placed[name].dtype)}"] += 1
    inside = tuple(key for key in _inside(match) if key not in known)
    problem = _problem(match.missing, inside, match.reshaped, len(wanted))
    if problem and not allow_partial:
        raise CheckpointError(f"{problem}; choose the right --arch, or add --allow-partial")
    network.load_state_dict(placed, strict=False)
    keys = match.source.keys
    rest = [key for key in match.rest if key not in known and key not in inside]
    missing = (*match.missing, *match.reshaped)
    said = tuple(f"{count} tensors from {what}, exactly" for what, count in converted.items())
    return Placement(
        match.place,
        {keys[key]: name for key, name in match.names.items()},
        match.naming.rule,
        missing,
        tuple(keys[key] for key in rest),
        tuple(keys[key] for key in inside),
        said,
    )


def own_name(match: Match, key: str) -> str:
    """Return the name below the prefix of a match.

    Args:
        match: The match.
        key: A key of the same state dict.

    Returns:
        The key without the prefix; '' for a key that lies elsewhere.
    """
    return key.removeprefix(match.prefix) if key.startswith(match.prefix) else ""


def _inside(match: Match) -> tuple[str, ...]:
    # Keys below the prefix that are neither the network's nor those of a head.
    counters = {key for key in match.rest if key.rpartition(".")[2] == COUNTER}
    modules = {key.rpartition(".")[0] for key in match.names}
    rest = [key for key in match.rest if own_name(match, key)]
    counts = {key for key in rest if is_count(key)}
    counts |= {key for key in counters if key.rpartition(".")[0] in modules}
    return tuple(key for key in rest if not is_head(own_name(match, key)) and key not in counts)


def _converted(key: str, value: Tensor, wanted: Tensor) -> Tensor:
    objection = objection_to_numbers(value, key) or objection_to_type(value, wanted)
    if objection:
        raise CheckpointError(f"{key[:_SHOWN]!r} {objection}; this is no file of these weights")
    if value.dtype == wanted.dtype:
        return value
    exact = exactly(value, wanted.dtype)
    if exact is None:
        raise CheckpointError(
            f"{key[:_SHOWN]!r} is {short(value.dtype)} and would be rounded to "
            f"{short(wanted.dtype)}; where that is wanted, convert the tensors and save the file "
            "again"
        )
    return exact


def _problem(
    missing: Sequence[str], unplaced: Sequence[str], reshaped: Mapping[str, str], total: int
) -> str:
    parts = []
    if reshaped:
        parts.append(
            f"{len(reshaped)} tensors have another shape ({_some(tuple(reshaped.values()))})"
        )
    if missing:
        parts.append(f"{len(missing)} of {total} tensors are missing ({_some(missing)})")
    if unplaced:
        parts.append(f"{len(unplaced)} keys fit nowhere ({_some(unplaced)})")
    return "; ".join(parts)


def _some(names: Sequence[str]) -> str:
    shown = (printable(name[:_SHOWN]) for name in names[:_SEVERAL])
    return ", ".join(shown) + (", ..." if len(names) > _SEVERAL else "")


STEM = "stem_padding"
# Prefixes under which solo-learn, and programs that follow it, keep the encoder.
ASKED = ("backbone.", "encoder.", "momentum_backbone.", "momentum_encoder.")


def ask_about_stem(
    architecture: str, arguments: Mapping[str, Any], keys: Iterable[str]
) -> tuple[str, ...]:
    """Refuse weights of `cifar_resnet18` whose keys look like solo-learn's until a stem is stated.

    Args:
        architecture: The architecture that was asked for.
        arguments: Its arguments; `stem_padding` among them is an answer.
        keys: Keys of the weight file.

    Returns:
        Warnings, a sentence each.

    Raises:
        CheckpointError: When the file may hold either and nobody has said which.
    """
    if architecture != "cifar_resnet18" or STEM in arguments:
        return ()
    choice = (
        f"--arguments '{{\"{STEM}\": 2}}' for solo-learn's stem (3x3 with padding 2), or "
        f"'{{\"{STEM}\": 1}}' for the paper's (padding 1)"
    )
    asked = next((key for key in keys if any(f".{key}".count(f".{p}") for p in ASKED)), None)
    if asked is not None:
        raise CheckpointError(
            f"key {asked!r} is as in solo-learn, whose stem has the same shapes as "
            f"{architecture} and another function; state which it is: {choice}"
        )
    return (
        "the padding of the stem cannot be seen in a weight file; 1 is assumed. State it by "
        f"{choice}",
    )


def timm_twins(architecture: str) -> tuple[str, ...]:
    """Warn where timm has a second network with the same keys and shapes.

    Args:
        architecture: As in `build_backbone`.

    Returns:
        Warnings, a sentence each.
    """
    source, _, name = architecture.partition(":")
    if source != "timm":
        return ()
    import timm  # pyright: ignore[reportMissingImports]

    plain = name.partition(".")[0]
    others = {f"tf_{plain}", plain.removeprefix("tf_"), plain.replace("_clip_quickgelu", "_clip")}
    if "quickgelu" not in plain:
        others.add(plain.replace("_clip_", "_clip_quickgelu_"))
    known = sorted((others - {plain}) & set(timm.list_models()))
    return tuple(
        f"timm's {other!r} has the same tensors as {plain!r} and another function (padding, "
        "epsilon or activation); make sure that the weights are of the one you named"
        for other in known
    )
