"""Tell from names and shapes of tensors which architecture a weight file is of."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from robustcl.core.checks import COUNTER
from robustcl.core.errors import CheckpointError
from robustcl.models.weights.contents import StoredNetwork, Tensors
from robustcl.models.weights.matching import is_count, is_head

_INDEX = Path(__file__).with_name("torchvision_shapes.json")
_STAGE = re.compile(r"(.*?)(layer1|[0-9]+)\.0\.conv1\.weight")
# Words of keys by which networks are told that see no images, or put out more than one vector.
_STRANGERS = (
    (re.compile(r"word_embeddings|embed_tokens|token_embedding|\bwte\.|\bbert\.|lm_head"),
     "a model of text"),
    (re.compile(r"\brpn\.|roi_heads|bbox_|box_head|anchor|class_embed\.|\bmodel\.\d+\.dfl\."),
     "a detector"),
    (re.compile(r"decode_head|aspp|up_blocks|\bunet|vae\."), "a model that puts out images"),
)  # fmt: skip


@dataclass(frozen=True)
class Recognised:
    """Say which network fits a file.

    Args:
        architecture: As in `build_backbone`.
        arguments: Its keyword arguments.
        network: Where it lies, as `--network` names it.
        notes: What cannot be seen in a file and was taken from custom, a sentence each.
        question: What has to be stated because files of two functions look alike; '' for nothing.
    """

    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)
    network: str = ""
    notes: tuple[str, ...] = ()
    question: str = ""


def recognise(networks: list[StoredNetwork]) -> list[Recognised]:
    """Find architectures whose tensors have the names and shapes of a file's.

    Args:
        networks: Those of the file.

    Returns:
        One per network and fit; none where nothing is known.
    """
    found = []
    for network in networks:
        for prefix in _prefixes(network.tensors):
            part = _under(network.tensors, prefix)
            one = _of_torchvision(part) or _of_residual(part) or _of_vit(part)
            if one is not None:
                place = ".".join(filter(None, [network.place, prefix.rstrip(".")]))
                found.append(Recognised(one.architecture, one.arguments, place, one.notes,
                                        one.question))  # fmt: skip
    return found


def refuse_strangers(networks: list[StoredNetwork]) -> None:
    """Refuse files of networks that no encoder of images is in.

    Args:
        networks: Those of the file.

    Raises:
        CheckpointError: Saying what kind of network it is.
    """
    for network in networks:
        for pattern, kind in _STRANGERS:
            key = next((key for key in network.tensors if pattern.search(key)), None)
            if key is not None and not any(k.startswith("visual.") for k in network.tensors):
                raise CheckpointError(
                    f"{key!r} is a tensor of {kind}; give the weights of an image encoder or "
                    "classifier, such as its backbone alone"
                )


def signature(tensors: Mapping[str, Tensor], without: str) -> str:
    """Return a hash of names and shapes.

    Args:
        tensors: By name.
        without: The linear layer that is left out, whose size is the number of classes.

    Returns:
        16 hexadecimal digits.
    """
    rows = sorted(
        f"{name} {tuple(value.shape)}"
        for name, value in tensors.items()
        if name.rpartition(".")[2] != COUNTER and name.rpartition(".")[0] != without
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


@cache
def _index() -> dict[str, dict[str, list[str]]]:
    # By the classification layer's name and the signature, torchvision's names.
    return json.loads(_INDEX.read_text(encoding="utf-8"))


def _of_torchvision(tensors: Tensors) -> Recognised | None:
    # As it is; with its layers by number; without what contrastive training puts on top.
    bare = {key: value for key, value in tensors.items() if not (is_head(key) or is_count(key))}
    names: set[str] = set()
    for form in (tensors, bare, _by_name(bare)):
        for layer, entries in _index().items():
            names.update(entries.get(signature(form, layer), ()))
        if names:
            break
    if not names:
        return None
    first, *others = sorted(names)
    question = f"torchvision's {', '.join([first, *others])} have these tensors" if others else ""
    return Recognised(f"torchvision:{first}", question=question)


_CHILDREN = {
    "0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4",
}  # fmt: skip


def _by_name(tensors: Tensors) -> Tensors:
    # Children of a residual network by number, by the names that torchvision gives them.
    if not all(key.partition(".")[0] in _CHILDREN for key in tensors):
        return {}
    return {
        f"{_CHILDREN[key.partition('.')[0]]}.{key.partition('.')[2]}": value
        for key, value in tensors.items()
    }


def _prefixes(tensors: Tensors) -> Iterator[str]:
    # Nothing, and what stands before parts of a network that are told by their names.
    found: dict[str, None] = {"": None}
    for key in tensors:
        for anchor in ("conv1.weight", "bn1.weight", "cls_token", "class_token"):
            if key.endswith(f".{anchor}"):
                found[key.removesuffix(anchor)] = None
        staged = _STAGE.fullmatch(key)
        if staged is not None:
            found[staged[1]] = None
        if re.fullmatch(r"(.*\.)?features\.0\.(0\.)?weight", key):
            found[key[: key.rindex("features.0")]] = None
    yield from found


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


_STEMS = "the padding of the stem and a max-pooling after it cannot be seen in a file"


def _of_residual(tensors: Tensors) -> Recognised | None:
    # Residual networks with a 3x3 stem, with named stages or stages by number.
    first = min((int(k.split(".")[0]) for k in tensors if _is_stage(k)), default=None)
    named = "layer1.0.conv1.weight" in tensors
    stem, norm = ("conv1.weight", "bn1.weight") if named else ("0.weight", "1.weight")
    if (not named and first is None) or stem not in tensors or norm not in tensors:
        return None
    if tensors[stem].ndim != 4 or tuple(tensors[stem].shape[2:]) != (3, 3):
        return None
    stages: list[int] = []
    while True:
        name = f"layer{len(stages) + 1}" if named else str((first or 0) + len(stages))
        count = 0
        while f"{name}.{count}.conv1.weight" in tensors:
            count += 1
        if not count:
            break
        stages.append(count)
    words = {part for key in tensors for part in key.split(".")}
    convolution = bool(words & {"downsample", "shortcut"})
    start = "layer1" if named else str(first)
    arguments: dict[str, Any] = {
        "channels": int(tensors[stem].shape[1]),
        "blocks": stages,
        "width": int(tensors[stem].shape[0]),
        "block": "bottleneck" if f"{start}.0.conv3.weight" in tensors else "basic",
        "shortcut": "convolution" if convolution or len(stages) < 2 else "padding",
    }
    notes = []
    if not convolution and len(stages) > 1:
        notes.append(
            "shortcuts have no weights: they are taken as every second pixel with zeros for the "
            "new channels (option A of the ResNet paper)"
        )
    custom = "shortcut" in words or "linear" in words or not convolution
    if named and custom:
        notes.append(f"{_STEMS}: padding 1 and none are taken, as is the custom of such programs")
    question = ""
    if not named and first == 2:
        arguments["stem_relu"] = False
        notes.append("layers are numbered as where no ReLU follows the stem, so there is none")
    elif (named and not custom) or (not named and first == 4):
        question = f"{_STEMS}, and programs differ"
    return Recognised("cifar_resnet", arguments, notes=tuple(notes), question=question)


def _is_stage(key: str) -> bool:
    return re.fullmatch(r"[0-9]+\.0\.conv1\.weight", key) is not None


_VITS = {
    (192, 16, 12): "vit_tiny_patch16_224", (384, 16, 12): "vit_small_patch16_224",
    (384, 8, 12): "vit_small_patch8_224", (768, 16, 12): "vit_base_patch16_224",
    (768, 8, 12): "vit_base_patch8_224", (768, 32, 12): "vit_base_patch32_224",
    (1024, 16, 24): "vit_large_patch16_224", (1280, 14, 32): "vit_huge_patch14_224",
}  # fmt: skip


def _of_vit(tensors: Tensors) -> Recognised | None:
    # Vision transformers in the naming of timm, which DINO, MAE and MoCo v3 share.
    wanted = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")
    if not all(name in tensors for name in wanted) or "blocks.0.ls1.gamma" in tensors:
        return None
    kernel = tensors["patch_embed.proj.weight"].shape
    depth = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})
    name = _VITS.get((int(kernel[0]), int(kernel[-1]), depth))
    tokens = tensors["pos_embed"].shape[1] - 1
    side = math.isqrt(tokens)
    if name is None or side * side != tokens:
        return None
    arguments: dict[str, Any] = {"img_size": side * int(kernel[-1])}
    notes = ("the number of attention heads cannot be seen in a file: that of timm is taken",)
    return Recognised(f"timm:{name}", arguments, notes=notes)
