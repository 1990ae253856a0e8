"""Say how far a training run is, and bring it back there."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor

from robustcl.core.errors import RunError
from robustcl.core.files import parse_json
from robustcl.core.memory import is_out_of_memory
from robustcl.core.schema import parse
from robustcl.training.resume_state import (
    RESUME_CURE,
    fill_optimizer,
    load_state,
    optimizer_tensors,
    save_state,
)
from robustcl.training.start_run import TrainingRun

_Count = Annotated[int, Meta(ge=0)]
_REASON = 200  # signs of an error or a value in a message


@dataclass(frozen=True)
class _Numbers:
    """State the numbers of a state's file (see `Position`).

    Args:
        key: What a resumed run must have in common, see `run_key`.
        epoch: As in `Position`; likewise the others.
    """

    key: str
    epoch: _Count
    step: _Count
    steps: _Count
    done: Annotated[float, Meta(ge=0.0)]
    seconds: Annotated[float, Meta(ge=0.0)]
    rows: tuple[dict[str, int | float], ...]


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
    rows: tuple[dict[str, int | float], ...] = ()


def saved(run: TrainingRun, place: Position, path: Path) -> None:
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


def resumed(run: TrainingRun, path: Path) -> Position:
    """Bring a fresh run to where its state was written.

    Args:
        run: A run that has just been started with the same data and recipe.
        path: The state.

    Returns:
        How far it is.

    Raises:
        RunError: When the state is of another run, or damaged.
        RuntimeError: When memory runs out.
    """
    tensors, content = load_state(path)
    numbers = parse(
        _Numbers,
        content,
        what=repr(str(path)),
        error=RunError,
        cure=RESUME_CURE,
        any_number=("rows",),  # what is measured may be no number, as where a class is absent
    )
    _check_key(numbers.key, run.key, path)
    try:
        return _filled(run, tensors, numbers)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    except RuntimeError as error:  # torch's word for shapes and types that do not fit
        if is_out_of_memory(error):
            raise
        reason = str(error)
    shown = " ".join(reason.split())[:_REASON]
    raise RunError(f"{str(path)!r} does not fit the run that it is of ({shown}); {RESUME_CURE}")


def _filled(run: TrainingRun, tensors: dict[str, Tensor], numbers: _Numbers) -> Position:
    device, count = run.images.device, len(run.images)
    order = tensors.get("order")
    if order is not None and not torch.equal(order.sort().values, torch.arange(count)):
        raise ValueError(f"order is not that of {count} images")
    if len(numbers.rows) != numbers.epoch or not all("loss" in row for row in numbers.rows):
        raise ValueError(f"rows are {len(numbers.rows)}, not one with a loss for each epoch")
    sums = _under("sum", tensors)
    wanted = {
        "thresholds": run.thresholds.shape,
        "prototypes": run.prototypes.shape,
        **{f"probe.{number}": probe.vector.shape for number, probe in enumerate(run.probes)},
    }
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} is {tuple(tensors[name].shape)}, not {tuple(shape)}")
    for name, value in sums.items():
        if value.numel() != 1:
            raise ValueError(f"sum.{name} has {value.numel()} numbers, not one")
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
    return Position(
        epoch=numbers.epoch,
        step=numbers.step,
        steps=numbers.steps,
        done=numbers.done,
        seconds=numbers.seconds,
        order=None if order is None else order.to(device),
        sums={name: value.to(device) for name, value in sums.items()},
        rows=numbers.rows,
    )


def _check_key(old: str, new: str, path: Path) -> None:
    if old == new:
        return
    now = json.loads(new)
    try:
        before = parse_json(old)
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise RunError(f"{str(path)!r} does not say of which run it is; {RESUME_CURE}")
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise RunError(
                f"{str(path)!r} is of a run with {name[:60]} {str(before.get(name))[:_REASON]!r}, "
                f"not {now.get(name)!r}; go on with the same options, or remove it to start again"
            )


def _named(group: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{group}.{name}": torch.as_tensor(value) for name, value in tensors.items()}


def _under(group: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{group}."
    return {k.removeprefix(prefix): value for k, value in tensors.items() if k.startswith(prefix)}
