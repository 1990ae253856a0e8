"""Save a violation so that it can be replayed, and replay it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from robustcl.attacks.exact_margin import exact_margin
from robustcl.core import atomic
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.files import parse_json
from robustcl.core.hashes import network_hash
from robustcl.core.modules import eval_mode, exact_copy
from robustcl.core.objectives import misclassify
from robustcl.core.schema import parse
from robustcl.core.tensor_header import read_header
from robustcl.core.threat import check_norm, perturbation_norm

_Count = Annotated[int, Meta(ge=0)]
_SCHEMA = 2
_OLD_SCHEMA = 1  # without a checksum
_CURE = "give a file of OUT/violations as the run wrote it, or repeat the run"
REPRODUCER_KEY = "robustcl_violation"


@dataclass(frozen=True)
class Violation:
    """State which certificate was beaten, by what, on which network.

    Args:
        index: Position of the image in the data set.
        predicted: The class that the certificate says does not change.
        rival: The class that the perturbed image gets.
        norm: 'l2', 'linf' or 'l1'.
        certified: The certified radius, in pixel units.
        certificate: The method that claimed it.
        attacked: Norm of the perturbation.
        attack: The attack that found it.
        seed: Seed of the run.
        example_seed: Seed of the attack on this image.
        network: Hash of the network's numbers (see `network_hash`).
        checkpoint: SHA-256 of the checkpoint file, where there was one.
        data: Name of the data set.
        data_hash: Its hash.
        config_hash: Of the run.
        device: Where it was found.
        versions: Package to version.
    """

    index: _Count
    predicted: _Count
    rival: _Count
    norm: Norm
    certified: float
    certificate: str
    attacked: float
    attack: str
    seed: int
    example_seed: _Count
    network: str
    checkpoint: str
    data: str
    data_hash: str
    config_hash: str
    device: str
    versions: dict[str, str]


@dataclass(frozen=True, eq=False)
class Reproducer:
    """Hold a violation with its image.

    Args:
        violation: What was beaten.
        image: (C, H, W) float32 clean image.
        perturbation: (C, H, W) float64.
        sealed: Whether it was read from a file with a checksum; version 0.1 wrote none.
    """

    violation: Violation
    image: Tensor
    perturbation: Tensor
    sealed: bool = True


@dataclass(frozen=True)
class Replay:
    """Hold what a reproducer gives on a network in float64.

    Args:
        confirmed: Whether the perturbation is smaller than the certified radius and changes the
            class that was certified, by more than rounding.
        margin: Lead of the best other class over it on the perturbed image.
        rounding: What the margin has to exceed, see `attacks.exact_margin`.
        norm: Norm of the perturbation.
        predicted: Class of the clean image.
        rival: Class of the perturbed image.
    """

    confirmed: bool
    margin: float
    rounding: float
    norm: float
    predicted: int
    rival: int


def save_reproducer(place: Path, found: Reproducer) -> None:
    """Write a reproducer; the file is either the old one or the new one.

    Args:
        place: The file, ending in .safetensors; its folder is made if absent.
        found: The reproducer.
    """
    atomic.write_bytes(place, reproducer_bytes(found))


def reproducer_bytes(found: Reproducer) -> bytes:
    """Spell a reproducer as its file has it.

    Args:
        found: The reproducer.

    Returns:
        The content of the file.
    """
    tensors = {"image": found.image, "perturbation": found.perturbation}
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    stated = {"schema": _SCHEMA, **asdict(found.violation)}
    content = json.dumps({**stated, "checksum": _checksum(stated, plain)}, sort_keys=True)
    return save(plain, metadata={REPRODUCER_KEY: content})


def load_reproducer(place: Path) -> Reproducer:
    """Read a reproducer, and check every field. Nothing is unpickled.

    Args:
        place: The file.

    Returns:
        The reproducer.

    Raises:
        InputError: When the file is missing, or is no reproducer that this version reads, or is
            damaged.
    """
    try:
        metadata = read_header(place).metadata
        content = parse_json(metadata.get(REPRODUCER_KEY, "null"))
        with safe_open(place, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{str(place)!r} is no reproducer of a violation (it {error}); {_CURE}"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{str(place)!r} is no reproducer of a violation; {_CURE}")
    schema, known = content.get("schema"), content.pop("checksum", None)
    if type(schema) is not int or schema not in (_OLD_SCHEMA, _SCHEMA):
        versions = content.get("versions")
        made = versions.get("robustcl") if isinstance(versions, dict) else None
        raise InputError(
            f"{str(place)!r} has schema {str(schema)[:60]!r}, this version reads {_OLD_SCHEMA} and "
            f"{_SCHEMA}; install robustcl {str(made)[:60] if made else 'of the run'}"
        )
    if (known is None) != (schema == _OLD_SCHEMA) or (
        known is not None and known != _checksum(content, tensors)
    ):
        raise InputError(f"{str(place)!r} was changed after it was written; {_CURE}")
    del content["schema"]
    violation = parse(
        Violation,
        content,
        what=repr(str(place)),
        error=InputError,
        cure=_CURE,
        any_number=("certified",),  # infinite where no class can overtake
    )
    wrong = _contradiction(violation) or _wrong_tensor(tensors)
    if wrong:
        raise InputError(f"{str(place)!r} is not usable: {wrong}; {_CURE}")
    return Reproducer(violation, tensors["image"], tensors["perturbation"], known is not None)


def _checksum(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(dict(content), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _contradiction(violation: Violation) -> str:
    # What no single field says.
    if not 0 < violation.attacked < violation.certified:
        return (
            f"its certified radius is {violation.certified} and the attacked one "
            f"{violation.attacked}, which is no violation"
        )
    if violation.predicted == violation.rival:
        return f"its predicted class and its rival are both {violation.rival}"
    return ""


def _wrong_tensor(tensors: Mapping[str, Tensor]) -> str:
    if tensors.keys() != {"image", "perturbation"}:
        return f"it holds {', '.join(sorted(tensors)) or 'no tensor'}, not image and perturbation"
    image, change = tensors["image"], tensors["perturbation"]
    if image.dtype != torch.float32 or change.dtype != torch.float64:
        return f"its image is {image.dtype} and its perturbation {change.dtype}"
    if image.ndim != 3 or image.shape != change.shape or not image.numel():
        return f"its image is {tuple(image.shape)} and its perturbation {tuple(change.shape)}"
    if not bool(((image >= 0) & (image <= 1)).all()):  # also where it is no number
        return "its image has pixels outside [0, 1]"
    if not bool(torch.isfinite(change).all()):
        return "its perturbation has entries that are not finite"
    return ""


def replay(found: Reproducer, classifier: Classifier) -> Replay:
    """Evaluate a violation again, on a float64 copy of the network.

    Args:
        found: The reproducer.
        classifier: The network it was found on; left as it was.

    Returns:
        What comes out, and whether it confirms the violation.

    Raises:
        InputError: When the network is another one, or does not take the image or the class.
    """
    violation, own = found.violation, network_hash(classifier)
    if tuple(found.image.shape) != tuple(classifier.image_shape):
        raise InputError(
            f"the violation is about an image of shape {tuple(found.image.shape)}, the network "
            f"takes {tuple(classifier.image_shape)}; give the checkpoint of that run"
        )
    if own != violation.network:
        raise InputError(
            f"the violation was found on the network {violation.network[:16]}…, this is "
            f"{own[:16]}…; give the checkpoint of that run"
        )
    if max(violation.predicted, violation.rival) >= classifier.num_classes:
        raise InputError(
            f"the violation is about the classes {violation.predicted} and {violation.rival}, the "
            f"network has {classifier.num_classes}; {_CURE}"
        )
    exact, start = exact_copy(classifier), found.image.double()
    images = torch.stack([start, start + found.perturbation]).to(exact.encoder.mean.device)
    target = torch.tensor([violation.predicted], device=images.device)
    with eval_mode(classifier), torch.no_grad():
        predicted, rival = exact(images).argmax(dim=1).tolist()
        lead, bound = exact_margin(
            misclassify(exact, target), misclassify(classifier, target), images[1:], batch_size=2
        )
    margin, rounding = float(lead), float(bound)
    norm = float(perturbation_norm(found.perturbation[None], check_norm(violation.norm)))
    beaten = margin > rounding and norm < violation.certified and predicted == violation.predicted
    return Replay(beaten, margin, rounding, norm, predicted, rival)
