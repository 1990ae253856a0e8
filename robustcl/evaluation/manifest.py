"""State a run for its manifest."""

import hashlib
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from robustcl import attacks, certify
from robustcl.core.classifier import Classifier
from robustcl.data.dataset import Dataset
from robustcl.evaluation.config import EvaluationConfig
from robustcl.models.reference import Reference
from robustcl.records.reading import SCHEMA, config_hash

PACKAGES = ("robustcl", "torch", "torchvision", "numpy", "scipy", "pyautoattack", "torchattacks")


@dataclass(frozen=True)
class Origin:
    """Say where a run comes from.

    Args:
        checkpoint_hash: SHA-256 of the checkpoint.
        command: The command line.
        reference: The accuracy that the model is said to have; None where nothing is known.
    """

    checkpoint_hash: str = ""
    command: str = ""
    reference: Reference | None = None


NOWHERE = Origin()


def run_manifest(
    classifier: Classifier, dataset: Dataset, audit: EvaluationConfig, origin: Origin, device: str
) -> dict[str, Any]:
    """State a run: what was asked, of which model and data, by which versions, on which device.

    Args:
        classifier: The model.
        dataset: The images.
        audit: What is measured.
        origin: Checkpoint and command.
        device: Where it is computed.

    Returns:
        The content of manifest.json, with `complete` off.
    """
    config = _config(dataset, audit, origin)
    return {
        "schema": SCHEMA,
        "config": config,
        "config_hash": config_hash(config),
        "command": origin.command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": package_versions(),
        "device": device_name(device),
        "hashes": {"checkpoint": origin.checkpoint_hash, "data": config["data_hash"]},
        "claims": [_claim_entry(text) for text in audit.methods],
        "attacks": [
            {
                "name": text,
                "parameters": attacks.parse_attack(text).options,
                "minimum_norm": attacks.ATTACKS[attacks.parse_attack(text).name].minimum_norm,
            }
            for text in audit.attacks
        ],
        "class_names": list(classifier.class_names),
        **({} if origin.reference is None else {"reference": asdict(origin.reference)}),
        "num_examples": len(dataset),
        "labeled": dataset.labeled,
        **({"data_notes": list(dataset.notes)} if dataset.notes else {}),
        **({} if dataset.rows is None else {"rows": dataset.rows.tolist()}),
        "image_shape": list(dataset.image_shape),
        "seconds": 0.0,
        "complete": False,
    }


def _config(dataset: Dataset, audit: EvaluationConfig, origin: Origin) -> dict[str, Any]:
    # What determines the records.
    defaults = certify.changed_defaults(audit.methods)
    return {
        "norm": audit.norm,
        "methods": list(audit.methods),
        "attacks": list(audit.attacks),
        "eps": list(audit.eps),
        "seed": audit.seed,
        "batch_size": audit.batch_size,
        "data": dataset.name,
        "num_examples": len(dataset),
        "data_hash": dataset.hash(),
        "checkpoint_hash": origin.checkpoint_hash,
        **rows_entry(dataset),
        **({"screened": True} if audit.screened else {}),
        **({"one_budget": True} if audit.one_budget else {}),
        **({"views": audit.views} if audit.views else {}),
        **({"test_certificates": True} if audit.tests_balls else {}),
        **({"defaults": defaults} if defaults else {}),
    }


def rows_entry(dataset: Dataset) -> dict[str, str]:
    """State which rows of the whole split were drawn.

    Args:
        dataset: The data.

    Returns:
        A hash of the rows under 'rows'; nothing for all rows, or the first ones, as version
        0.1.0 took them.
    """
    rows = dataset.rows
    if rows is None or np.array_equal(rows, np.arange(len(rows))):
        return {}
    return {"rows": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:16]}


def _claim_entry(text: str) -> dict[str, Any]:
    method = certify.METHODS[certify.parse_method(text).name]
    return {
        "name": text,
        "norm": list(method.norms),
        "guarantee": method.guarantee,
        "subject": method.subject,
        "claim": method.claim,
        "reference": method.reference,
    }


def package_versions() -> dict[str, str]:
    """Name the versions that a result depends on.

    Returns:
        Package to version, or 'not installed'.
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def device_name(device: str) -> str:
    """Name a device.

    Args:
        device: cpu, cuda, ...

    Returns:
        Its model, for people.
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
