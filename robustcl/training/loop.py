"""Train an encoder on a sum of contrastive losses; go on after an interruption."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from robustcl.core.classifier import Encoder
from robustcl.core.errors import RunError
from robustcl.data.dataset import Dataset
from robustcl.models.dual_batch_norm import join_batch_norm
from robustcl.models.heads import LinearHead
from robustcl.training.logs import TrainLog, tensorboard_log, training_bar, write_rows
from robustcl.training.measuring import measure_training
from robustcl.training.optimizers import rate
from robustcl.training.position import Position, resumed, saved
from robustcl.training.processes import rank_and_count, same_everywhere
from robustcl.training.recipe import TrainRecipe
from robustcl.training.robust.inner_attack import InnerAttack
from robustcl.training.start_run import TrainingRun, begin_training
from robustcl.training.train_step import train_step
from robustcl.training.weight_average import averaged, step_average

COLLAPSED_SPREAD = 0.02  # an untrained network has about 0.1
Observe = Callable[[Encoder, int], Mapping[str, float]]


@dataclass(frozen=True)
class Files:
    """Say what a run leaves on disk while it goes on.

    Args:
        state: Where the state goes; None to keep none. It stays when the run ends, so that nothing
            is lost before the caller has saved the encoder and removes it.
        save_every: Steps between two states; at the end of every epoch there is one as well.
        resume: Whether to go on from the state.
        log: A CSV file with one row per epoch; None for none.
        measure_every: Epochs between two measurements of contradiction, collapse and kNN
            accuracy; 0 for never.
        tensorboard: A folder for TensorBoard's event files, with the numbers of the CSV file; None
            for none.
    """

    state: Path | None = None
    save_every: int = 500
    resume: bool = False
    log: Path | None = None
    measure_every: int = 0
    tensorboard: Path | None = None


def train_encoder(
    encoder: Encoder,
    dataset: Dataset,
    recipe: TrainRecipe,
    *,
    device: str | torch.device = "cpu",
    files: Files | None = None,
    progress: bool = True,
    observe: Observe | None = None,
    attack: InnerAttack | None = None,
    teacher: Encoder | None = None,
) -> TrainLog:
    """Train the encoder in place, on losses of its raw embedding without a projector.

    The encoder is moved to the device and left in eval mode. The data set lies on the device as a
    whole. With one thread on one machine the same seed gives the same weights, unless
    `max_seconds` cuts the run; a run that was killed and goes on from its state gives the same
    weights as one that was not. Under torch.distributed the processes share each batch.

    Args:
        encoder: What is trained; its weights change.
        dataset: Training images, and labels where the losses need them.
        recipe: All options.
        device: Where to train.
        files: What is written and whether to go on; None writes nothing.
        progress: Whether to show a bar on stderr.
        observe: Called at the end of each epoch with the encoder and the epochs that are over;
            what it returns goes into the log. It leaves the encoder as it is (see `frozen`).
        attack: What finds attacked views where the recipe wants them: `attacks.inner_ascent`.
        teacher: What the student of 'deacl' learns from; copied, never changed.

    Returns:
        The log of the run. After 'acl' and 'dynacl' the encoder's BatchNorm layers are plain ones,
        those of the adversarial branch.

    Raises:
        RunError: When the loss is not finite, or the embedding has collapsed.

    Reference:
        Chen et al., A Simple Framework for Contrastive Learning of Visual Representations,
        ICML 2020, algorithm 1.
    """
    files = files or Files()
    given = {"attack": attack, "teacher": teacher}
    run = begin_training(encoder, dataset, recipe, torch.device(device), **given)
    try:
        return _trained(run, files, progress, observe)
    finally:
        join_batch_norm(run.model)


def _trained(run: TrainingRun, files: Files, progress: bool, observe: Observe | None) -> TrainLog:
    recipe, place = run.recipe, Position()
    if files.resume and files.state is not None:
        place = resumed(run, files.state)
    if rank_and_count()[0]:  # one process writes and measures; all read the state
        files, progress, observe = Files(), False, None
    started = time.monotonic() - place.seconds
    log = tensorboard_log(files.tensorboard, steps=place.steps)
    with training_bar(progress) as show, log as write:
        while place.epoch < recipe.epochs and place.done < 1.0:
            place = _train_epoch(run, place, files, started, observe)
            write(place.rows[-1])
            show(place.done, f"epoch {place.epoch} loss {place.rows[-1]['loss']:.3f}")
    if run.average is not None:
        run.model.load_state_dict(run.average.state_dict())
    if run.method is not None:
        run.method.end(run.encoder.backbone)
    run.encoder.eval()
    return _finished(run, place)


def _train_epoch(
    run: TrainingRun, place: Position, files: Files, started: float, observe: Observe | None
) -> Position:
    recipe = run.recipe
    per_step = recipe.batch_size * recipe.accumulate
    steps = len(run.images) // per_step
    if place.order is None:
        device = run.images.device
        order = torch.randperm(len(run.images), generator=run.generator, device=device)
        place = replace(place, order=order, sums={})
    assert place.order is not None
    batches = place.order[: steps * per_step].split(per_step)
    for rows in batches[place.step :]:
        if place.done >= 1.0:
            break
        lr = recipe.learning_rate * rate(min(place.done, 1.0), recipe.warmup)
        found = train_step(run, rows, epoch=place.epoch, rate=lr)
        place = _after(place, found, recipe, steps, time.monotonic() - started)
        if run.average is not None:
            step_average(run.average, run.model, decay=recipe.ema, steps=place.steps)
        if files.state is not None and files.save_every and not place.steps % files.save_every:
            saved(run, place, files.state)
    row = _row(run, place, files, started)
    if observe is not None:
        row |= observe(averaged(run).encoder, place.epoch + 1)
    place = replace(
        place, epoch=place.epoch + 1, step=0, order=None, sums={}, rows=(*place.rows, row)
    )
    place = replace(place, seconds=time.monotonic() - started)
    if files.log is not None:
        write_rows(files.log, place.rows)
    if files.state is not None:
        saved(run, place, files.state)
    return place


def _after(
    place: Position, found: dict[str, Tensor], recipe: TrainRecipe, steps: int, seconds: float
) -> Position:
    sums = {name: place.sums.get(name, 0.0) + value for name, value in found.items()}
    done = place.done + 1.0 / (steps * recipe.epochs)
    if recipe.max_seconds is not None:
        done = max(done, same_everywhere(seconds) / recipe.max_seconds)
    return replace(
        place, step=place.step + 1, steps=place.steps + 1, done=done, sums=sums, seconds=seconds
    )


def _row(run: TrainingRun, place: Position, files: Files, started: float) -> dict[str, float]:
    means = {name: float(value) / place.step for name, value in place.sums.items()}
    if not math.isfinite(means["loss"]):
        run.encoder.eval()
        raise RunError(
            f"the loss became {means['loss']} in epoch {place.epoch + 1}; "
            f"lower learning_rate (now {run.recipe.learning_rate})"
        )
    row = {
        "epoch": place.epoch + 1,
        "steps": place.steps,
        "seconds": time.monotonic() - started,
        **means,
    }
    if files.measure_every and (place.epoch + 1) % files.measure_every == 0:
        row |= measure_training(averaged(run), epoch=place.epoch)
    return row


def _finished(run: TrainingRun, place: Position) -> TrainLog:
    last = measure_training(run, epoch=max(place.epoch - 1, 0), neighbors=False)
    if not last["spread"] > COLLAPSED_SPREAD:
        raise RunError(
            f"the embedding collapsed: its spread is {last['spread']:.3g} (1 is uniform, the "
            f"least allowed is {COLLAPSED_SPREAD}); {_cure(run.recipe)}, or train longer"
        )
    images = place.steps * run.recipe.batch_size * run.recipe.accumulate
    return TrainLog(
        losses=tuple(row["loss"] for row in place.rows),
        penalties=tuple(row.get("penalty", 0.0) for row in place.rows),
        rows=place.rows,
        steps=place.steps,
        seconds=place.seconds,
        images_per_second=images / max(place.seconds, 1e-9),
        spread=last["spread"],
        alignment=last["alignment"],
        uniformity=last["uniformity"],
        head=_class_layer(run),
    )


def _cure(recipe: TrainRecipe) -> str:
    if recipe.robust:
        return f"weaken robust (now {recipe.robust!r}), as by a smaller eps or weight"
    return f"lower log_norm_penalty (now {recipe.log_norm_penalty})"


def _class_layer(run: TrainingRun) -> LinearHead | None:
    if run.classes is None or run.average is not None or run.model is not run.encoder:
        return None
    return LinearHead(run.classes.weight.detach().cpu(), run.classes.bias.detach().cpu())
