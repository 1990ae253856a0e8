"""Save a violation so that it can be replayed, and replay it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attacks.exact_margin import exact_margin
from robustcl.classifier import Classifier
from robustcl.errors import InputError
from robustcl.exact_copy import exact_copy
from robustcl.frozen import frozen
from robustcl.network_hash import network_hash
from robustcl.objectives import misclassify
from robustcl.threat import check_norm, perturbation_norm

SCHEMA = 1
KEY = "robustcl_violation"


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

    index: int
    predicted: int
    rival: int
    norm: str
    certified: float
    certificate: str
    attacked: float
    attack: str
    seed: int
    example_seed: int
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
    """

    violation: Violation
    image: Tensor
    perturbation: Tensor


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
    place.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"image": found.image, "perturbation": found.perturbation}
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = json.dumps({"schema": SCHEMA, **asdict(found.violation)}, sort_keys=True)
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    save_file(plain, temporary, metadata={KEY: content})
    temporary.replace(place)


def load_reproducer(place: Path) -> Reproducer:
    """Read a reproducer. Nothing is unpickled.

    Args:
        place: The file.

    Returns:
        The reproducer.

    Raises:
        InputError: When the file is missing, or is no reproducer that this version reads.
    """
    if not place.is_file():
        raise InputError(f"{str(place)!r} is not there; give a file of OUT/violations")
    try:
        with safe_open(place, framework="pt") as stored:
            content: dict[str, Any] = json.loads((stored.metadata() or {})[KEY])
            image, change = stored.get_tensor("image"), stored.get_tensor("perturbation")
        schema = content.pop("schema")
        violation = Violation(**content)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{str(place)!r} is no reproducer of a violation ({error}); give a file of "
            "OUT/violations"
        ) from error
    if schema != SCHEMA:
        raise InputError(
            f"{str(place)!r} has schema {schema!r}, this version reads {SCHEMA}; install "
            f"robustcl {violation.versions.get('robustcl')}"
        )
    return Reproducer(violation, image, change)


def replay(found: Reproducer, classifier: Classifier) -> Replay:
    """Evaluate a violation again, on a float64 copy of the network.

    Args:
        found: The reproducer.
        classifier: The network it was found on; left as it was.

    Returns:
        What comes out, and whether it confirms the violation.

    Raises:
        InputError: When the network is another one.
    """
    violation, own = found.violation, network_hash(classifier)
    if own != violation.network:
        raise InputError(
            f"the violation was found on the network {violation.network[:16]}…, this is "
            f"{own[:16]}…; give the checkpoint of that run"
        )
    exact, start = exact_copy(classifier), found.image.double()
    images = torch.stack([start, start + found.perturbation]).to(exact.encoder.mean.device)
    target = torch.tensor([violation.predicted], device=images.device)
    with frozen(classifier), torch.no_grad():
        predicted, rival = exact(images).argmax(dim=1).tolist()
        lead, bound = exact_margin(
            misclassify(exact, target), misclassify(classifier, target), images[1:], batch_size=2
        )
    margin, rounding = float(lead), float(bound)
    norm = float(perturbation_norm(found.perturbation[None], check_norm(violation.norm)))
    beaten = margin > rounding and norm < violation.certified and predicted == violation.predicted
    return Replay(beaten, margin, rounding, norm, predicted, rival)
