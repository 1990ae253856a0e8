"""Write and read the state of an unfinished training run: safetensors, never a pickle."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from robustcl.errors import RunError
from robustcl.stored_file import write_tensors

KEY = "robustcl-training"


def save_state(path: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Write a state; the file is either the old one or the new one.

    Args:
        path: The file.
        tensors: By name.
        numbers: What JSON holds; floats are kept exactly.
    """
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_tensors(path, copies, {KEY: json.dumps(numbers)})


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a state.

    Args:
        path: The file.

    Returns:
        Tensors on the CPU, and numbers.

    Raises:
        RunError: When the file is missing, damaged or something else.
    """
    with _opened(path) as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        return tensors, json.loads((stored.metadata() or {})[KEY])


def read_numbers(path: Path) -> dict[str, Any]:
    """Read how far a state is, and of which run, without its tensors.

    Args:
        path: The file.

    Returns:
        Its numbers.

    Raises:
        RunError: When the file is missing, damaged or something else.
    """
    with _opened(path) as stored:
        return dict(json.loads((stored.metadata() or {})[KEY]))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise RunError(f"there is no state {str(path)!r} to go on from; start without --resume")
    try:
        with safe_open(path, framework="pt") as stored:
            yield stored
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{str(path)!r} is not the state of a training run ({error!r}); remove it, then "
            "start again"
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
        return str(json.loads(read_numbers(path)["key"])["data_hash"])
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
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
