"""Write and read the state of an unfinished training run: safetensors, never a pickle."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from robustcl.core.errors import RunError
from robustcl.core.files import parse_json
from robustcl.core.hashes import checksum
from robustcl.core.tensor_header import read_header
from robustcl.models.stored_file import write_tensors

STATE_KEY = "robustcl-training"
_CHECKSUM = "robustcl-training-sha256"
RESUME_CURE = "remove it, then start again"


def save_state(path: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Write a state; the file is either the old one or the new one.

    Args:
        path: The file.
        tensors: By name.
        numbers: What JSON holds; floats are kept exactly.
    """
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    text = json.dumps(numbers)
    write_tensors(path, copies, {STATE_KEY: text, _CHECKSUM: checksum(text, copies)})


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a state, and compare its checksum.

    Args:
        path: The file.

    Returns:
        Tensors on the CPU, and numbers.

    Raises:
        RunError: When the file is missing, damaged or something else.
    """
    with _opened(path) as (stored, numbers):
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        metadata = stored.metadata()
        known = metadata.get(_CHECKSUM)  # versions before 0.3 wrote none
        if known is not None and known != checksum(metadata[STATE_KEY], tensors):
            raise RunError(f"{str(path)!r} was changed after it was written; {RESUME_CURE}")
        return tensors, numbers


def read_numbers(path: Path) -> dict[str, Any]:
    """Read how far a state is, and of which run, without its tensors.

    Args:
        path: The file.

    Returns:
        Its numbers.
    """
    with _opened(path) as (_, numbers):
        return numbers


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    try:
        numbers = parse_json(read_header(path).metadata.get(STATE_KEY, "null"))
        if not isinstance(numbers, dict):
            raise ValueError("does not say how far it is")
        with safe_open(path, framework="pt") as stored:
            yield stored, numbers
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if not path.exists():
            raise RunError(
                f"there is no state {str(path)!r} to go on from; start without --resume"
            ) from error
        raise RunError(
            f"{str(path)!r} is not the state of a training run (it {error}); {RESUME_CURE}"
        ) from error


def stated_data(path: Path) -> str:
    """Read which data a state is of.

    Args:
        path: The file.

    Returns:
        The hash of the data; '' where the state does not say.

    Raises:
        RunError: When the file is missing, damaged or something else.
    """
    try:
        return str(parse_json(str(read_numbers(path).get("key", "")))["data_hash"])
    except (KeyError, TypeError, ValueError):
        return ""


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's memory of each weight.

    Args:
        optimizer: The optimizer.

    Returns:
        'NUMBER.NAME' to tensor, in the order of the weights.
    """
    entries = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, entry in entries.items()
        for name, value in entry.items()
        if value is not None
    }


def fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give the optimizer back what `optimizer_tensors` returned.

    Args:
        optimizer: A fresh one with the same weights and options.
        tensors: By 'NUMBER.NAME'.

    Raises:
        ValueError: When they are not of these weights.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        if value.ndim and value.shape != weights[int(number)].shape:
            shapes = f"{tuple(value.shape)}, not {tuple(weights[int(number)].shape)}"
            raise ValueError(f"the optimizer's {key} is {shapes}")
        state.setdefault(int(number), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
