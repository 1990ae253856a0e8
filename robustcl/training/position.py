"""Say how far a training run is, and bring it back there."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustcl.errors import RunError
from robustcl.training.resume_state import (
    fill_optimizer,
    load_state,
    optimizer_tensors,
    save_state,
)
from robustcl.training.start_run import Run


@dataclass(frozen=True, eq=False)
class Position:
    """Say how far a run is.

    Args:
        epoch: Epochs that are over.
        step: Steps of the present epoch that are over.
        steps: Steps in all.
        done: Share of the schedule that is over.
        seconds: Wall-clock time so far.
        order: (N,) the present epoch's order of images; None before it is drawn.
        sums: Sums of the present epoch's losses, by name.
        rows: Per finished epoch all numbers by name.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    done: float = 0.0
    seconds: float = 0.0
    order: Tensor | None = None
    sums: dict[str, Any] = field(default_factory=dict)
    rows: tuple[dict[str, float], ...] = ()


def saved(run: Run, place: Position, path: Path) -> None:
    """Write all that the rest of a run depends on.

    Args:
        run: The run.
        place: How far it is.
        path: The file.
    """
    tensors = {
        "generator": run.generator.get_state(),
        "torch": torch.get_rng_state(),
        "thresholds": run.thresholds,
        "prototypes": run.prototypes,
        **({} if place.order is None else {"order": place.order}),
        **_named("model", run.model.state_dict()),
        **({} if run.average is None else _named("average", run.average.state_dict())),
        **({} if run.classes is None else _named("classes", run.classes.state_dict())),
        **_named("optimizer", optimizer_tensors(run.optimizer)),
        **_named("sum", place.sums),
        **{f"probe.{number}": probe.vector for number, probe in enumerate(run.probes)},
    }
    if run.images.is_cuda:
        tensors["cuda"] = torch.cuda.get_rng_state(run.images.device)
    numbers = {
        "key": run.key,
        "epoch": place.epoch,
        "step": place.step,
        "steps": place.steps,
        "done": place.done,
        "seconds": place.seconds,
        "rows": place.rows,
    }
    save_state(path, tensors, numbers)


def resumed(run: Run, path: Path) -> Position:
    """Bring a fresh run to where its state was written.

    Args:
        run: A run that has just been started with the same data and recipe.
        path: The state.

    Returns:
        How far it is.

    Raises:
        RunError: When the state is of another run.
    """
    tensors, numbers = load_state(path)
    _check_key(numbers["key"], run.key, path)
    device = run.images.device
    run.model.load_state_dict(_under("model", tensors))
    if run.average is not None:
        run.average.load_state_dict(_under("average", tensors))
    if run.classes is not None:
        run.classes.load_state_dict(_under("classes", tensors))
    fill_optimizer(run.optimizer, _under("optimizer", tensors))
    run.generator.set_state(tensors["generator"])
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)
    run.thresholds.copy_(tensors["thresholds"])
    run.prototypes.copy_(tensors["prototypes"])
    for number, probe in enumerate(run.probes):
        probe.vector.copy_(tensors[f"probe.{number}"])
    order = tensors.get("order")
    return Position(
        epoch=numbers["epoch"],
        step=numbers["step"],
        steps=numbers["steps"],
        done=numbers["done"],
        seconds=numbers["seconds"],
        order=None if order is None else order.to(device),
        sums={name: value.to(device) for name, value in _under("sum", tensors).items()},
        rows=tuple(numbers["rows"]),
    )


def _check_key(old: str, new: str, path: Path) -> None:
    if old == new:
        return
    before, now = json.loads(old), json.loads(new)
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise RunError(
                f"{str(path)!r} is of a run with {name} {before.get(name)!r}, not "
                f"{now.get(name)!r}; go on with the same options, or remove it to start again"
            )


def _named(group: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{group}.{name}": torch.as_tensor(value) for name, value in tensors.items()}


def _under(group: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{group}."
    return {k.removeprefix(prefix): value for k, value in tensors.items() if k.startswith(prefix)}
