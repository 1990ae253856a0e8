"""Open the folder of a model: transformers, timm's own format, open_clip."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from robustcl import __version__
from robustcl.core.classifier import Encoder
from robustcl.core.errors import CheckpointError
from robustcl.core.files import read_json
from robustcl.models.architectures import build_backbone, embedding_size
from robustcl.models.checkpoint import Loaded, hash_of
from robustcl.models.description import Description
from robustcl.models.hub_networks import (
    CLASSIFIERS,
    OneOutput,
    import_open_clip,
    pick_of,
    plain_config,
    quiet_transformers,
    refuse_code,
    without_pooler,
)
from robustcl.models.own_head import own_classifier
from robustcl.models.sources.preprocessing import (
    Preprocessing,
    of_open_clip,
    of_processor,
    of_timm,
)
from robustcl.models.sources.request import ModelRequest
from robustcl.models.weights.matching import Match
from robustcl.models.weights.placing import find_match, place_weights
from robustcl.models.weights.reading import read_networks

_REASON = 300
CONFIG, OPEN_CLIP, PROCESSOR = "config.json", "open_clip_config.json", "preprocessor_config.json"
# Full models of images and text, and the class of transformers that is their image tower.
TOWERS = {
    "CLIPModel": "CLIPVisionModelWithProjection",
    "SiglipModel": "SiglipVisionModel",
}
_TEXT = ("text_model.", "text_projection.", "logit_scale", "logit_bias")


@dataclass(frozen=True, eq=False)
class _Found:
    # A network with its weights, and what the folder says about it.
    network: nn.Module
    architecture: str
    arguments: dict[str, Any]
    whole: bool
    preprocessing: Preprocessing | None
    class_names: tuple[str, ...]
    facts: tuple[str, ...]
    layer: str = ""


def open_folder(place: Path, request: ModelRequest) -> Loaded:
    """Open a local folder as its library saved it. Nothing is downloaded, no code in it is run.

    Args:
        place: Holds `config.json` and weights (transformers, timm), or `open_clip_config.json`.
        request: What the user says about it.

    Returns:
        The encoder; the classifier where the model has a classification layer.

    Raises:
        CheckpointError: When it is no such folder, names code, or weights do not fit.
        InputError: When its library is not installed.
    """
    request.refuse_beside(f"{str(place)!r} is the folder of a model", but=(
        "image_shape", "normalization", "class_names"))  # fmt: skip
    if (place / OPEN_CLIP).is_file():
        found = _open_clip(place)
    elif (place / CONFIG).is_file():
        config = _table(place / CONFIG)
        found = _timm(place, config) if "architecture" in config else _transformers(place, config)
    else:
        raise CheckpointError(
            f"{str(place)!r} holds neither {CONFIG} (transformers, timm) nor {OPEN_CLIP}; give "
            "the folder of a model, or a weight file"
        )
    return _loaded(place, found, request)


def _loaded(place: Path, found: _Found, request: ModelRequest) -> Loaded:
    own = found.preprocessing
    shape = request.image_shape or (own.image_shape if own else None)
    pair = request.normalization or ((own.mean, own.std) if own else None)
    if shape is None or pair is None:
        raise CheckpointError(
            f"{str(place)!r} has no {PROCESSOR}, so its input is not known; state --input-size, "
            "--mean and --std"
        )
    size = embedding_size(found.network, shape)
    encoder = Encoder(found.network, image_shape=shape, mean=pair[0], std=pair[1]).eval()
    names = request.class_names or found.class_names
    classifier, layer = None, ""
    if found.whole and request.own_head is not False:
        classifier, layer = own_classifier(encoder, names)
        size = encoder(encoder.mean.new_full((1, *shape), 0.5)).shape[1]
    elif request.own_head:
        raise CheckpointError(f"{str(place)!r} has no classification layer; fit a head")
    stated = request.normalization is not None
    source = "stated" if stated or own is None else own.source
    transform = own.transform if own is not None and shape == own.image_shape else None
    description = Description(
        architecture=found.architecture,
        arguments=found.arguments,
        image_shape=shape,
        mean=pair[0],
        std=pair[1],
        embedding_size=size,
        recipe={"converted_from": place.resolve().name},
        version=__version__,
        normalization=source,
        head_layer=layer,
        transform=transform,
    )
    mean, std = (",".join(f"{n:g}" for n in row) for row in pair)
    facts = [*found.facts, f"input: {'x'.join(map(str, shape))}, mean {mean}, std {std} ({source})"]
    if transform is not None:
        facts.append(f"images of other sizes: {transform}")
    if classifier is not None:
        what = f"its own linear layer {layer!r}" if layer else "its own scores"
        facts.append(f"head: {what}, {classifier.num_classes} classes")
    digest = hash_of(encoder if classifier is None else classifier, description)
    return Loaded(encoder, classifier, description, digest, (), tuple(facts))


def _table(place: Path) -> dict[str, Any]:
    try:
        content = read_json(place)
    except ValueError as error:
        raise CheckpointError(f"{str(place)!r} {error}; copy the folder again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{str(place)!r} is no table; copy the folder again")
    return content


def _transformers(place: Path, config: Mapping[str, Any]) -> _Found:
    refuse_code(config, repr(str(place / CONFIG)))
    if (place / "adapter_config.json").exists():
        raise CheckpointError(f"{str(place)!r} is an adapter; merge it into its model first")
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    if not name:
        raise CheckpointError(
            f"{str(place / CONFIG)!r} names no architecture; save the model again"
        )
    kind_name = TOWERS.get(name, name)
    pick = pick_of(kind_name)
    with quiet_transformers() as library:
        kind = getattr(library, kind_name, None)
        if kind is None:
            raise CheckpointError(f"this version of transformers has no {kind_name!r}")
        try:
            model, report = kind.from_pretrained(
                place, local_files_only=True, trust_remote_code=False,
                output_loading_info=True, **without_pooler(kind), **_vision(library, place, name),
            )  # fmt: skip
        except Exception as error:  # of the library's code
            reason = " ".join(str(error).split())[:_REASON]
            raise CheckpointError(f"{str(place)!r} cannot be loaded ({reason})") from error
    _check_report(place, report, tower=name in TOWERS)
    arguments = {"config": plain_config(model.config)}
    labels = _labels(config) if kind_name.endswith(CLASSIFIERS) else ()
    preprocessing = None
    if (place / PROCESSOR).is_file():
        file = place / PROCESSOR
        preprocessing = of_processor(_table(file), file.name)
    network = OneOutput(model.eval(), pick)
    what = {"logits": "scores", "first": "the first token", "pooler": "the pooled output"}
    output = what.get(pick, "projected image embeddings")
    return _Found(
        network, f"transformers:{kind_name}", arguments, pick == "logits", preprocessing, labels,
        (f"architecture: transformers {kind_name}, {output}",),
    )  # fmt: skip


def _vision(library: Any, place: Path, name: str) -> dict[str, Any]:
    # The configuration of an image tower is part of that of the whole.
    if name not in TOWERS:
        return {}
    whole = getattr(library, name).config_class.from_pretrained(place, local_files_only=True)
    config = whole.vision_config
    if hasattr(whole, "projection_dim"):
        config.projection_dim = whole.projection_dim
    return {"config": config}


def _check_report(place: Path, report: Mapping[str, Any], *, tower: bool) -> None:
    # Never a partial load: what is missing would be random.
    missing, other = list(report.get("missing_keys", ())), report.get("mismatched_keys", ())
    unknown = [
        key
        for key in report.get("unexpected_keys", ())
        if not (tower and str(key).startswith(_TEXT)) and "pooler." not in str(key)
        and not str(key).endswith("position_ids")
    ]  # fmt: skip
    for what, keys in (("lacks", missing), ("has in another shape", other), ("has too", unknown)):
        if keys:
            some = ", ".join(str(key)[:120] for key in list(keys)[:3])
            raise CheckpointError(
                f"{str(place)!r} {what} {len(list(keys))} tensors ({some}); the folder is not "
                "whole, or of another version"
            )


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    given = config.get("id2label")
    if not isinstance(given, Mapping) or not given:
        return ()
    try:
        pairs = sorted((int(key), str(value)) for key, value in given.items())
    except ValueError:
        return ()
    names = tuple(value for _, value in pairs)
    plain = all(name.upper() == f"LABEL_{number}" for number, name in enumerate(names))
    whole = [number for number, _ in pairs] == list(range(len(pairs)))
    return names if whole and not plain and len(set(names)) == len(names) else ()


def _weights(place: Path, *names: str) -> Path:
    found = next((place / name for name in names if (place / name).is_file()), None)
    if found is None:
        raise CheckpointError(f"{str(place)!r} holds none of {', '.join(names)}")
    return found


def _timm(place: Path, config: Mapping[str, Any]) -> _Found:
    name = str(config["architecture"])
    given = config.get("pretrained_cfg")
    own = dict(given) if isinstance(given, Mapping) else {}
    arguments = dict(config.get("model_args") or {})
    classes = config.get("num_classes", own.get("num_classes", 1000))
    if type(classes) is not int or classes < 0:
        raise CheckpointError(f"{str(place / CONFIG)!r} states num_classes {classes!r}")
    whole = classes >= 2
    if whole:
        arguments["num_classes"] = classes
    network = build_backbone(f"timm:{name}", arguments, whole=whole)
    file = _weights(place, "model.safetensors", "pytorch_model.bin")
    _placed(network, file)
    labels = config.get("label_names")
    names = tuple(map(str, labels)) if isinstance(labels, list) and len(labels) == classes else ()
    return _Found(
        network.eval(), f"timm:{name}", arguments, whole,
        of_timm(own, CONFIG) if own else None, names, (f"architecture: timm {name}",),
    )  # fmt: skip


def _open_clip(place: Path) -> _Found:
    config = _table(place / OPEN_CLIP)
    model, how = config.get("model_cfg"), config.get("preprocess_cfg")
    if not isinstance(model, Mapping) or not isinstance(model.get("vision_cfg"), Mapping):
        raise CheckpointError(f"{str(place / OPEN_CLIP)!r} has no model_cfg with a vision_cfg")
    import_open_clip()
    arguments = {
        "embed_dim": model.get("embed_dim"),
        "vision_cfg": dict(model["vision_cfg"]),
        "quick_gelu": bool(model.get("quick_gelu", False)),
    }
    network = build_backbone("open_clip:visual", arguments)
    _placed(network, open_clip_weights(place), wanted="visual")
    preprocessing = of_open_clip(
        how if isinstance(how, Mapping) else {}, model["vision_cfg"], OPEN_CLIP
    )
    return _Found(
        network.eval(), "open_clip:visual", arguments, False, preprocessing, (),
        ("architecture: open_clip, projected image embeddings",),
    )  # fmt: skip


def open_clip_weights(place: Path) -> Path:
    """Find the weights of an open_clip folder.

    Args:
        place: The folder.

    Returns:
        The file.

    Raises:
        CheckpointError: When there is none.
    """
    return _weights(
        place, "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
        "model.safetensors", "pytorch_model.bin",
    )  # fmt: skip


def _placed(network: nn.Module, file: Path, *, wanted: str | None = None) -> Match:
    networks = read_networks(file)
    try:
        match = find_match(network, networks, wanted=wanted)
        place_weights(network, match)
    except CheckpointError as error:
        raise CheckpointError(f"{str(file)!r}: {error}") from error
    return match
