"""Place the tensors of others in a network."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from robustcl.core.checks import COUNTER, exactly, objection_to_numbers, objection_to_type, short
from robustcl.core.errors import CheckpointError
from robustcl.core.terminal import printable

_PREFIXES = (
    *("module.", "backbone.", "encoder.", "encoder_q.", "online_encoder.", "model.", "net.", "f."),
    "_orig_mod.",
)
# What is not the encoder, by the first word of a key, after prefixes: heads, ...
_HEADS = (
    *("fc.", "classifier.", "head.", "heads.", "head_dist.", "projector.", "projection_head."),
    *("linear.", "last_linear.", "predictor.", "prediction_head.", "prototypes."),
    *("momentum_projector.", "momentum_classifier.", "projection_head_momentum."),
    # ... second networks that follow the first, and what they compare with.
    *("momentum_backbone.", "momentum_encoder.", "encoder_k.", "target_encoder."),
    *("backbone_momentum.", "queue", "queue_ptr"),
)


_LONGEST = 2000  # signs of a key; its prefixes are taken off one by one
_SHOWN = 200  # signs of a key in a message


@dataclass(frozen=True)
class Placement:
    """Report where the keys of a weight file went.

    Args:
        placed: Number of tensors that were loaded.
        missing: Tensors of the network that the file lacks or has in another shape.
        dropped: Keys of the file that belong to a head, which is not taken over.
        unplaced: Other keys of the file that fit nowhere.
        converted: What was converted from another type without rounding, a sentence each.
    """

    placed: int
    missing: tuple[str, ...]
    dropped: tuple[str, ...]
    unplaced: tuple[str, ...]
    converted: tuple[str, ...] = ()


def named_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Strip prefixes such as `module.` and `backbone.` from the keys of a weight file.

    Args:
        network: The network that they are for.
        weights: Tensors by key.

    Returns:
        The names by key.

    Raises:
        CheckpointError: When two keys fit the same place, as with a teacher and a student.
    """
    wanted = set(network.state_dict())
    named = {key: _strip(key, wanted) for key in weights}
    claims = Counter(name for name in named.values() if name in wanted)
    twice = sorted(name for name, count in claims.items() if count > 1)
    if twice:
        keys = _some(tuple(key for key, name in named.items() if name == twice[0]))
        raise CheckpointError(
            f"{len(twice)} tensors have two candidates each ({keys}); keep one network in the file"
        )
    return named


def place_weights(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    allow_partial: bool = False,
    known: Iterable[str] = (),
) -> Placement:
    """Load weights into a network, stripping prefixes such as `module.` and `backbone.`.

    Args:
        network: Receives the weights; left as it was where they are refused.
        weights: Tensors by key.
        allow_partial: Whether to go on where a tensor is missing or a key fits nowhere.
        known: Keys that fit nowhere and that the caller has made use of.

    Returns:
        The placement. Keys of a head (fc., projector., ...) are dropped and reported.

    Raises:
        CheckpointError: When something is missing or left over and `allow_partial` is off, or
            nothing fits, or two keys fit the same place, as with a teacher and a student, or a
            tensor is of the wrong kind, would be rounded, or has values that are not finite.
    """
    wanted = {k: v for k, v in network.state_dict().items() if isinstance(v, Tensor)}
    named = named_weights(network, weights)
    placed, reshaped = {}, []
    converted: Counter[str] = Counter()
    for key, name in named.items():
        if name not in wanted:
            continue
        if wanted[name].shape != weights[key].shape:
            shapes = f"{tuple(weights[key].shape)} for {tuple(wanted[name].shape)}"
            reshaped.append(f"{key}: {shapes}")
            continue
        placed[name] = _converted(key, weights[key], wanted[name])
        if placed[name].dtype != weights[key].dtype:
            converted[f"{short(weights[key].dtype)} to {short(placed[name].dtype)}"] += 1
    missing = tuple(n for n in wanted if n not in placed and n.rpartition(".")[2] != COUNTER)
    rest = [key for key, name in named.items() if name not in placed]
    dropped = tuple(key for key in rest if _is_head(named[key]) and key not in known)
    unplaced = tuple(key for key in rest if not _is_head(named[key]) and key not in known)
    problem = _problem(missing, unplaced, tuple(reshaped), len(wanted))
    if not placed or (problem and not allow_partial):
        raise CheckpointError(
            f"{problem or 'no key fits'}; choose the right --arch, or add --allow-partial"
        )
    network.load_state_dict(placed, strict=False)
    said = tuple(f"{count} tensors from {what}, exactly" for what, count in converted.items())
    return Placement(len(placed), missing, dropped, unplaced, said)


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


def _strip(key: str, known: set[str]) -> str:
    name = key
    while name not in known and len(key) <= _LONGEST:
        prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
        if prefix is None:
            return name
        name = name.removeprefix(prefix)
    return name


def _is_head(name: str) -> bool:
    return any(name.startswith(word) if word.endswith(".") else name == word for word in _HEADS)


def _problem(
    missing: tuple[str, ...], unplaced: tuple[str, ...], reshaped: tuple[str, ...], total: int
) -> str:
    parts = []
    if reshaped:
        parts.append(f"{len(reshaped)} tensors have another shape ({_some(reshaped)})")
    if missing:
        parts.append(f"{len(missing)} of {total} tensors are missing ({_some(missing)})")
    if unplaced:
        parts.append(f"{len(unplaced)} keys fit nowhere ({_some(unplaced)})")
    return "; ".join(parts)


def _some(names: tuple[str, ...]) -> str:
    shown = (printable(name[:_SHOWN]) for name in names[:4])
    return ", ".join(shown) + (", ..." if len(names) > 4 else "")


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
