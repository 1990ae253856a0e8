"""Open a weight file of another program: find its architecture and place its tensors."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robustcl import __version__
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import CheckpointError, InputError
from robustcl.core.terminal import printable
from robustcl.data.transform import ImageTransform
from robustcl.models.architectures import build_backbone, embedding_size, is_factory
from robustcl.models.checkpoint import Loaded, hash_of
from robustcl.models.description import Description
from robustcl.models.factory import find_factory
from robustcl.models.normalization import (
    Normalization,
    assumed,
    in_weights,
    of_architecture,
    released_weights,
)
from robustcl.models.outline import outline
from robustcl.models.own_head import own_classifier
from robustcl.models.reference import accuracy_among
from robustcl.models.sources.preprocessing import of_timm, of_torchvision
from robustcl.models.sources.request import ImageShape, ModelRequest
from robustcl.models.weights.contents import StoredNetwork, places_text, without_wrappers
from robustcl.models.weights.matching import FOLLOWERS, Match, chosen, matches, namings_of
from robustcl.models.weights.placing import (
    Placement,
    ask_about_stem,
    find_match,
    place_weights,
    tensors_of,
    timm_twins,
)
from robustcl.models.weights.reading import read_networks
from robustcl.models.weights.recognition import Recognised, recognise, refuse_strangers
from robustcl.models.weights.stacks import NAME, question_of, read_stack, stack_arguments

# The argument by which an architecture gets its classification layer.
_CLASSES = {"cifar_resnet": "num_classes", "cifar_resnet18": "embedding_size"}
_SIDES = {"cifar_resnet": 32, "cifar_resnet18": 32}
_SHOWN = 80


@dataclass(frozen=True, eq=False)
class _Plan:
    # What is built: the architecture, with its classification layer or not, and what is said of it.
    architecture: str
    arguments: dict[str, Any]
    whole: bool
    shape: ImageShape | None
    network: str | None
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def open_weight_file(place: Path, request: ModelRequest) -> Loaded:
    """Read a weight file into the architecture that is named, or that its shapes show.

    Args:
        place: The file.
        request: What the user says about it.

    Returns:
        The encoder; the classifier where the file has a classification layer and it is wanted.

    Raises:
        CheckpointError: When the file is no weight file, its architecture is not known, tensors do
            not fit, or something has to be stated.
        InputError: When the architecture cannot be built, or does not take such images.
    """
    networks = read_networks(place)
    try:
        refuse_strangers(networks)
        plan = _planned(networks, request)
        everything = {key: value for one in networks for key, value in one.tensors.items()}
        outline(plan.architecture, plan.arguments, everything, whole=plan.whole)  # within bounds
        network = build_backbone(plan.architecture, plan.arguments, whole=plan.whole)
        match = find_match(
            network, networks, wanted=plan.network, allow_partial=request.allow_partial
        )
        stems = ask_about_stem(plan.architecture, plan.arguments, match.source.keys.values())
        transform = _transform_of(plan.architecture, network, place)
        shape = plan.shape or _default_shape(plan.architecture, network, transform)
        normalization, known = _normalization(plan, request, network, match, shape, place)
        placement = place_weights(network, match, allow_partial=request.allow_partial, known=known)
    except CheckpointError as error:
        raise CheckpointError(f"{str(place)!r}: {error}") from error
    placement = replace(placement, notes=_of_choice(network, networks, match))
    size = embedding_size(network, shape)
    encoder = Encoder(network, image_shape=shape, mean=normalization.mean, std=normalization.std)
    encoder.eval()
    classifier, layer = None, ""
    if plan.whole:
        classifier, layer = own_classifier(encoder, request.class_names)
        size = encoder(_gray(encoder)).shape[1]
    elif request.class_names:
        raise InputError(f"class names for {str(place)!r}, which has no classes of its own")
    fits = transform is not None and shape[1:] == (transform.crop, transform.crop)
    transform = transform if fits else None
    untrained = {"missing": list(placement.missing)} if placement.missing else {}
    factory = find_factory(plan.architecture) if is_factory(plan.architecture) else None
    description = Description(
        architecture=factory.architecture if factory is not None else plan.architecture,
        arguments=plan.arguments,
        image_shape=shape,
        mean=normalization.mean,
        std=normalization.std,
        embedding_size=size,
        recipe={"converted_from": place.name, **untrained, **_stated(match)},
        version=__version__,
        normalization=normalization.source,
        head_layer=layer,
        transform=transform,
    )
    twins = timm_twins(plan.architecture)
    notes = (*plan.notes, *placement.notes, *stems, *twins, *normalization.warnings)
    model = encoder if classifier is None else classifier
    figures = [f"{printable(k)} {v:.6g}" for k, v in match.source.said.items()]
    told = (f"beside the weights: {', '.join(figures)}",) if figures else ()
    sized = (f"images of other sizes: {transform}",) if transform is not None else ()
    facts = (
        *plan.facts,
        *_facts(placement, normalization, shape, classifier, layer),
        *sized,
        *told,
    )
    digest = hash_of(model, description)
    return Loaded(
        encoder,
        classifier,
        description,
        digest,
        notes,
        facts,
        placement,
        factory=factory,
    )


def _stated(match: Match) -> dict[str, Any]:
    # What the file itself says about its accuracy, to be compared with what is measured.
    known = accuracy_among(match.source.said)
    return {} if known is None else {"stated_accuracy": asdict(known)}


def _gray(encoder: Encoder) -> Tensor:
    return encoder.mean.new_full((1, *encoder.image_shape), 0.5)


def _planned(networks: Sequence[StoredNetwork], request: ModelRequest) -> _Plan:
    named = request.arch or ""
    if named == NAME or named.startswith(f"{NAME}:"):
        return _stack_plan(named, networks, request)
    if request.arch is not None:
        return _with_head(
            _Plan(request.arch, request.arguments, False, request.image_shape, request.network),
            networks, request,
        )  # fmt: skip
    if request.arguments:
        raise CheckpointError("--arguments without --arch; name the architecture that takes them")
    found = recognise(list(networks))
    if request.network is not None:
        found = [one for one in found if _is_at(one.network, request.network)]
    leaders = [one for one in found if not FOLLOWERS & set(one.network.split("."))] or found
    kinds = {(one.architecture, str(one.arguments)) for one in leaders}
    if len(kinds) > 1:
        raise CheckpointError(_which(leaders))
    if not leaders:
        raise CheckpointError(_unknown(networks, request))
    one = leaders[0]
    if one.question:
        raise CheckpointError(_asked(one))
    side = one.arguments.get("img_size")
    shape = request.image_shape or ((3, side, side) if isinstance(side, int) else None)
    text = f"architecture: {one.architecture}{_in_words(one.arguments)}, by names and shapes"
    place = request.network or (one.network if len(leaders) == 1 else None)
    plan = _Plan(one.architecture, one.arguments, False, shape, place, (text,), one.notes)
    return _with_head(plan, networks, request)


def _is_at(place: str, wanted: str) -> bool:
    return f".{wanted.strip('.')}." in f".{place}." or place == wanted


def _in_words(arguments: Mapping[str, Any]) -> str:
    words = [f"{key} {value}" for key, value in arguments.items()]
    return f" ({', '.join(words)})" if words else ""


def _which(found: Sequence[Recognised]) -> str:
    places = ", ".join(f"{printable(one.network[:_SHOWN])!r}" for one in found[:6])
    return (
        f"there are {len(found)} networks in the file: {places}; choose one, as in --network "
        f"'{printable(found[0].network[:_SHOWN])}'"
    )


def _asked(one: Recognised) -> str:
    if one.architecture != "cifar_resnet":
        return f"{one.question}; name one with --arch"
    arguments = {**one.arguments, "stem_padding": 1, "max_pool": False}
    text = str(arguments).replace("'", '"').replace("True", "true").replace("False", "false")
    return (
        f"{one.question}; state them, as in --arch cifar_resnet --arguments '{text}' for padding 1 "
        "and no max-pooling"
    )


def _unknown(networks: Sequence[StoredNetwork], request: ModelRequest) -> str:
    del request
    stacks = [stack for stack in map(read_stack, networks) if stack is not None]
    if len(networks) == 1 and stacks:
        return question_of(stacks[0])
    if stacks:
        return (
            f"there are {len(networks)} networks in the file: {places_text(list(networks))}; "
            f"choose one, as in --network '{networks[0].place}'. {question_of(stacks[0])}"
        )
    first = next(iter(networks[0].tensors.items()))
    return (
        "its architecture is not recognised by names and shapes (the first tensor is "
        f"{printable(first[0][:_SHOWN])!r}, {tuple(first[1].shape)}); name it: --arch "
        "torchvision:NAME, timm:NAME, or FILE.py:factory for a class of your own"
    )


def _stack_plan(named: str, networks: Sequence[StoredNetwork], request: ModelRequest) -> _Plan:
    if named == NAME and request.arguments:  # as a checkpoint keeps them
        whole = request.own_head is not False
        return _Plan(NAME, request.arguments, whole, request.image_shape, request.network)
    chosen_networks = [
        n for n in networks if request.network is None or _is_at(n.place, request.network)
    ]
    if len(chosen_networks) != 1:
        which = chosen_networks or networks
        raise CheckpointError(
            f"there are {len(which)} networks in the file: {places_text(list(which))}; choose one, "
            f"as in --network '{which[0].place}'"
        )
    stack = read_stack(chosen_networks[0])
    if stack is None:
        raise CheckpointError(
            "its tensors are not those of a plain stack of layers by position (0.weight, 2.weight, "
            "...); name another --arch, or give FILE.py:factory"
        )
    if named == NAME:
        raise CheckpointError(question_of(stack))
    arguments, shape = stack_arguments(named, stack, request.image_shape)
    words = " ".join("-".join(map(str, row)) for row in arguments["layers"])
    whole = request.own_head is not False
    return _Plan(NAME, arguments, whole, shape, request.network, (f"architecture: stack {words}",))


def _with_head(plan: _Plan, networks: Sequence[StoredNetwork], request: ModelRequest) -> _Plan:
    # Whether the file has the classification layer of the architecture, and for how many classes.
    if request.own_head is False:
        return plan
    if is_factory(plan.architecture) or plan.architecture.startswith("stack"):
        return replace(plan, whole=True)
    arguments, problem = _arguments_with_classes(plan, networks)
    if arguments is not None:
        return replace(plan, arguments=arguments, whole=True)
    if request.own_head:
        raise CheckpointError(f"{problem}; fit a head, as in --head linear")
    return plan


def _arguments_with_classes(
    plan: _Plan, networks: Sequence[StoredNetwork]
) -> tuple[dict[str, Any] | None, str]:
    source = plan.architecture.partition(":")[0]
    key = "num_classes" if source in ("torchvision", "timm") else _CLASSES.get(source)
    if key is None:
        return None, f"{plan.architecture!r} has no classification layer"
    given = {} if key in plan.arguments else {key: 1000}
    arguments = {**plan.arguments, **given}
    everything = {k: v for network in networks for k, v in network.tensors.items()}
    network = outline(plan.architecture, arguments, everything, whole=True)
    network = network or build_backbone(plan.architecture, arguments, whole=True)
    layer = _last_linear(network)
    wanted = {name: value for name, value in tensors_of(network).items() if
              name.rpartition(".")[0] != layer}  # fmt: skip
    nothing = "the file has no classification layer"
    for match in chosen(matches(wanted, networks, namings_of(network)), plan.network):
        if not match.complete:
            continue
        if FOLLOWERS & {part for k in match.source.tensors for part in k.split(".")}:
            return None, "the linear layer of such a file belongs to contrastive training"
        for naming in namings_of(network):
            name = naming.spell(f"{layer}.weight")
            weight = match.source.tensors.get(match.prefix + name)
            if weight is not None and weight.ndim == 2:
                return {**arguments, **({key: len(weight)} if given else {})}, ""
    return None, nothing


def _last_linear(network: nn.Module) -> str:
    found = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    return found[-1] if found else ""


def _transform_of(architecture: str, network: nn.Module, place: Path) -> ImageTransform | None:
    # How images are brought to size by those who released the weights, where that is known.
    source, _, name = architecture.partition(":")
    if source == "torchvision":
        entry = released_weights(name, place)
        return of_torchvision(entry.transforms(), str(entry)) if entry is not None else None
    own = getattr(network, "pretrained_cfg", None)
    if source == "timm" and isinstance(own, Mapping) and own.get("mean"):
        return of_timm(own, f"timm's configuration of {name}").transform
    return None


def _default_shape(
    architecture: str, network: nn.Module, transform: ImageTransform | None
) -> ImageShape:
    if transform is not None and transform.crop is not None:
        return 3, transform.crop, transform.crop
    own = getattr(network, "pretrained_cfg", None) or {}
    size = own.get("input_size") if isinstance(own, Mapping) else None
    if isinstance(size, tuple) and len(size) == 3:
        return size[0], size[1], size[2]
    side = _SIDES.get(architecture, 224)
    return 3, side, side


def _normalization(
    plan: _Plan,
    request: ModelRequest,
    network: nn.Module,
    match: Match,
    shape: ImageShape,
    place: Path,
) -> tuple[Normalization, list[str]]:
    # What is stated, else what the weight file holds, else what is known of the architecture.
    stored, known = None, list[str]()
    for above in _above(match.prefix):  # beside the network, or beside what holds it
        rest = {
            key.removeprefix(above): match.source.tensors[key]
            for key in match.rest
            if key.startswith(above)
        }
        stored = stored or in_weights(rest, channels=shape[0])
        known = known or ([above + name for name in stored[1]] if stored else [])
    if request.normalization is not None:
        warnings: tuple[str, ...] = ()
        if stored and Normalization(*stored[0], "").differs(
            *request.normalization, channels=shape[0]
        ):
            text = normalization_text(*stored[0])
            warnings = (f"the weight file itself states {text}, which is left aside",)
        return Normalization(*request.normalization, "stated", warnings), known
    if stored:
        return Normalization(*stored[0], f"weight file, {' and '.join(known)}"), known
    found = of_architecture(plan.architecture, network, place, channels=shape[0])
    return found or assumed(), known


def _above(prefix: str) -> list[str]:
    parts = prefix.split(".")[:-1]
    return ["".join(f"{part}." for part in parts[:count]) for count in range(len(parts), -1, -1)]


def normalization_text(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """Write means and deviations.

    Args:
        mean: Channel means.
        std: Channel standard deviations.

    Returns:
        Part of a line.
    """
    rows = (",".join(f"{number:g}" for number in row) for row in (mean, std))
    return "mean {}, std {}".format(*rows)


def _of_choice(
    network: nn.Module, networks: Sequence[StoredNetwork], match: Match
) -> tuple[str, ...]:
    every = matches(tensors_of(network), networks, namings_of(network))
    others = [other.place for other in every if other.place != match.place]
    if not others or not match.complete:
        return ()
    return (
        f"the network at {match.place!r} is taken; for another one of the file, add --network "
        f"{' or '.join(repr(other) for other in others[:4])}",
    )


def _facts(
    placement: Placement,
    normalization: Normalization,
    shape: ImageShape,
    classifier: Classifier | None,
    layer: str,
) -> tuple[str, ...]:
    where = f" from {placement.network!r}" if placement.network else ""
    naming = f" ({placement.naming})" if placement.naming else ""
    lines = [f"weights: {placement.placed} tensors{where}{naming}"]
    plain = [without_wrappers(key) for key in placement.dropped]
    groups = Counter(key.partition(".")[0] if "." in key else key for key in plain)
    if groups:
        shown = [f"{printable(name[:_SHOWN])} ({count})" for name, count in groups.most_common(8)]
        lines.append(f"left aside: {', '.join(shown)}{', ...' if len(groups) > 8 else ''}")
    size = "x".join(map(str, shape))
    text = normalization_text(normalization.mean, normalization.std)
    lines.append(f"input: {size}, {text} ({normalization.source})")
    if classifier is not None:
        what = f"its own linear layer {layer!r}" if layer else "its own scores"
        lines.append(f"head: {what}, {classifier.num_classes} classes")
    return tuple(lines)
