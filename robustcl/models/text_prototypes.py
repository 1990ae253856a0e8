"""Classify by text: vectors of class names from a model's own text tower, or from a file."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from robustcl.core.classifier import Classifier
from robustcl.core.errors import CheckpointError, InputError
from robustcl.core.files import parse_json, read_json, require_file
from robustcl.core.tensor_header import read_header
from robustcl.models.checkpoint import Loaded, hash_of
from robustcl.models.heads import LinearHead
from robustcl.models.hub_networks import import_open_clip, quiet_transformers, refuse_code
from robustcl.models.sources.folder import CONFIG, OPEN_CLIP, open_clip_weights
from robustcl.models.stored_file import write_tensors
from robustcl.models.weights.placing import find_match, place_weights
from robustcl.models.weights.reading import read_networks

TEMPLATE = "a photo of a {}"
_KEY = "robustcl_prototypes"
_CURE = "give .npy (K, d), or .safetensors that `robustcl prompts` wrote or with a vector per name"
_MOST = 2**31  # bytes


@dataclass(frozen=True, eq=False)
class TextPrototypes:
    """Hold one vector per class.

    Scores are scale * <f / |f|, t_k> + bias, as CLIP and SigLIP have them.

    Args:
        vectors: (K, d), of length 1.
        class_names: K names; none where the file has none.
        scale: The model's logit scale, or 1.
        bias: Its logit bias, or 0.
    """

    vectors: Tensor
    class_names: tuple[str, ...]
    scale: float = 1.0
    bias: float = 0.0


def has_text(folder: Path) -> bool:
    """Tell whether a local folder is of a model with a text tower that is known here.

    Args:
        folder: The folder.

    Returns:
        Whether it is of open_clip, or a CLIP or SigLIP model of transformers.
    """
    if (folder / OPEN_CLIP).is_file():
        return True
    if not (folder / CONFIG).is_file():
        return False
    try:
        names = read_json(folder / CONFIG).get("architectures") or []
    except (ValueError, AttributeError):
        return False
    return bool(names) and names[0] in ("CLIPModel", "SiglipModel")


def text_prototypes(
    folder: Path, names: Sequence[str], templates: Sequence[str] = (TEMPLATE,)
) -> TextPrototypes:
    """Compute the vectors of class names by the folder's own text tower and tokenizer, offline.

    Each template is filled with the name; the vectors of a class are normalized, averaged and
    normalized again.

    Args:
        folder: A local folder of a CLIP or SigLIP model of transformers, or of open_clip.
        names: The class names.
        templates: Texts with `{}` where the name goes.

    Returns:
        The prototypes, with the model's logit scale and bias.

    Raises:
        CheckpointError: When the folder has no text tower that is known here.
        InputError: When a template has no `{}`, or there is no name.

    Reference:
        Radford et al., Learning Transferable Visual Models from Natural Language Supervision,
        ICML 2021, section 3.1.
    """
    if not names:
        raise InputError("there is no class name; give a file with one per line")
    wrong = next((text for text in templates if text.count("{}") != 1), None)
    if wrong is not None or not templates:
        raise InputError(f"template {wrong!r} has no single {{}} for the name; as in {TEMPLATE!r}")
    if not has_text(folder):
        raise CheckpointError(
            f"{str(folder)!r} is no folder of CLIP, SigLIP or open_clip, whose text tower is "
            "known; give --prototypes FILE"
        )
    texts = [template.replace("{}", name) for name in names for template in templates]
    with torch.no_grad():
        if (folder / OPEN_CLIP).is_file():
            rows, scale, bias = _open_clip(folder, texts)
        else:
            rows, scale, bias = _transformers(folder, texts)
    units = torch.nn.functional.normalize(rows.double(), dim=1).view(len(names), len(templates), -1)
    vectors = torch.nn.functional.normalize(units.mean(dim=1), dim=1)
    return TextPrototypes(vectors.float(), tuple(names), scale, bias)


def _transformers(folder: Path, texts: list[str]) -> tuple[Tensor, float, float]:
    config = read_json(folder / CONFIG)
    refuse_code(config, repr(str(folder / CONFIG)))
    name = config["architectures"][0]
    with quiet_transformers() as library:
        try:
            tokenizer = library.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            model = getattr(library, name).from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # of the library's code
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{str(folder)!r} cannot be loaded ({reason})") from error
        model.eval()
        length = int(model.config.text_config.max_position_embeddings)
        whole = name == "SiglipModel"
        tokens = tokenizer(
            texts, padding="max_length" if whole else True, truncation=True, max_length=length,
            return_tensors="pt",
        )  # fmt: skip
        given = {"input_ids": tokens["input_ids"]}
        if not whole:
            given["attention_mask"] = tokens["attention_mask"]
        rows = model.text_model(**given).pooler_output
        rows = rows if whole else model.text_projection(rows)
    bias = float(model.logit_bias) if whole else 0.0
    return rows, math.exp(float(model.logit_scale)), bias


def _open_clip(folder: Path, texts: list[str]) -> tuple[Tensor, float, float]:
    library = import_open_clip()
    config = read_json(folder / OPEN_CLIP)["model_cfg"]
    text = config.get("text_cfg") or {}
    if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        raise CheckpointError(
            f"{str(folder)!r} has a text tower of another library; give --prototypes FILE"
        )
    model = library.CLIP(**config).eval()
    networks = read_networks(open_clip_weights(folder))
    place_weights(model, find_match(model, networks))
    tokenizer = library.SimpleTokenizer(context_length=int(text.get("context_length", 77)))
    rows = model.encode_text(tokenizer(texts))
    bias = getattr(model, "logit_bias", None)
    return rows, math.exp(float(model.logit_scale)), 0.0 if bias is None else float(bias)


def write_prototypes(path: Path, found: TextPrototypes, templates: Sequence[str]) -> None:
    """Write prototypes to a .safetensors file.

    Args:
        path: The file.
        found: The prototypes.
        templates: What they were made with, for people.
    """
    tensors = {
        "vectors": found.vectors.contiguous(),
        "logit_scale": torch.tensor(found.scale, dtype=torch.float64),
        "logit_bias": torch.tensor(found.bias, dtype=torch.float64),
    }
    said = {"class_names": list(found.class_names), "templates": list(templates)}
    write_tensors(path, tensors, {_KEY: json.dumps(said)})


def is_prototypes(path: Path) -> bool:
    """Tell whether a file is one of prototypes that robustcl wrote.

    Args:
        path: The file.

    Returns:
        Whether its header says so.
    """
    try:
        return _KEY in read_header(path).metadata
    except (OSError, ValueError):
        return False


def read_prototypes(path: Path, names: Sequence[str] = ()) -> TextPrototypes:
    """Read prototypes from a file.

    Args:
        path: .npy with (K, d) numbers; or .safetensors with `vectors` or one (K, d) tensor, and
            perhaps `logit_scale` and `logit_bias`, or with one (d,) vector per class name.
        names: Class names, by row; those of the file by default.

    Returns:
        The prototypes, normalized.

    Raises:
        InputError: When the file is another, numbers are not finite, or names do not fit.
    """
    require_file(path, cure=_CURE)
    scale, bias, own = 1.0, 0.0, ()
    if path.suffix == ".npy":
        try:
            vectors = torch.from_numpy(np.load(path, allow_pickle=False)).float()
        except (ValueError, OSError, EOFError, TypeError) as error:
            raise InputError(f"{str(path)!r} is no array of numbers; {_CURE}") from error
    else:
        vectors, scale, bias, own = _of_safetensors(path, names)
    if vectors.ndim != 2 or not bool(torch.isfinite(vectors).all()) or not len(vectors):
        raise InputError(f"{str(path)!r} holds {tuple(vectors.shape)} numbers; {_CURE}")
    if bool((vectors.norm(dim=1) == 0).any()):
        raise InputError(f"{str(path)!r} has a vector of length 0; leave that class out")
    called = tuple(names) or own
    if called and len(called) != len(vectors):
        raise InputError(
            f"{str(path)!r} has {len(vectors)} vectors for {len(called)} class names; give one each"
        )
    units = torch.nn.functional.normalize(vectors.double(), dim=1).float()
    return TextPrototypes(units, called, scale, bias)


def _of_safetensors(
    path: Path, names: Sequence[str]
) -> tuple[Tensor, float, float, tuple[str, ...]]:
    try:
        metadata = read_header(path).metadata
        tensors = {k: v.float() for k, v in load_file(path).items()}
    except (ValueError, SafetensorError, OSError) as error:
        raise InputError(f"{str(path)!r} cannot be read ({str(error)[:200]}); {_CURE}") from error
    scale, bias = (
        float(tensors.pop(name, torch.tensor(other)).reshape(-1)[0])
        for name, other in (("logit_scale", 1.0), ("logit_bias", 0.0))
    )
    own: tuple[str, ...] = ()
    if _KEY in metadata:
        try:
            said = parse_json(metadata[_KEY])
        except ValueError as error:
            raise InputError(f"{str(path)!r} has an unreadable header; {_CURE}") from error
        names_said = said.get("class_names") if isinstance(said, dict) else None
        own = tuple(map(str, names_said)) if isinstance(names_said, list) else ()
    if not math.isfinite(scale) or not math.isfinite(bias) or scale <= 0:
        raise InputError(f"{str(path)!r} has the logit scale {scale} and bias {bias}; {_CURE}")
    tables = [value for value in tensors.values() if value.ndim == 2]
    if len(tables) == 1 and len(tensors) == 1:
        return tables[0], scale, bias, own
    if tensors and all(value.ndim == 1 for value in tensors.values()):
        called = tuple(names) or tuple(sorted(tensors))
        lacking = [name for name in called if name not in tensors]
        if lacking:
            raise InputError(f"{str(path)!r} has no vector for {lacking[0]!r}")
        return torch.stack([tensors[name] for name in called]), scale, bias, called
    raise InputError(f"{str(path)!r} holds {', '.join(list(tensors)[:5]) or 'nothing'}; {_CURE}")


def with_prototypes(loaded: Loaded, found: TextPrototypes) -> Loaded:
    """Make a classifier of an encoder and prototypes.

    Args:
        loaded: The encoder.
        found: The prototypes.

    Returns:
        The same with a linear head on the sphere, W = scale * t_k and b = bias.

    Raises:
        InputError: When the vectors have another size than the embeddings.
    """
    size = loaded.description.embedding_size
    if found.vectors.shape[1] != size:
        raise InputError(
            f"the prototypes have {found.vectors.shape[1]} numbers each and the encoder's "
            f"embeddings {size}; give those of its own text tower"
        )
    weight = found.scale * found.vectors
    head = LinearHead(weight, torch.full((len(weight),), found.bias))
    classifier = Classifier(loaded.encoder, head, class_names=found.class_names).eval()
    description = replace(loaded.description, head_layer="")
    text = f"head: {len(weight)} text prototypes, logit scale {found.scale:.4g}"
    facts = (*(fact for fact in loaded.facts if not fact.startswith("head:")), text)
    return replace(
        loaded,
        classifier=classifier,
        description=description,
        facts=facts,
        hash=hash_of(classifier, description),
    )
