"""The files of `robustcl train`: what may be written, and whether a training is over already."""

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robustcl.core.atomic import remove_dead_files
from robustcl.core.errors import InputError, RunError
from robustcl.core.files import read_text
from robustcl.core.listing import LONGEST_LISTING
from robustcl.core.locks import session_lock
from robustcl.core.output_folder import check_output
from robustcl.models.checkpoint import read_description
from robustcl.models.description import Description
from robustcl.models.stored_file import has_description, header_names
from robustcl.options.train import TrainOptions
from robustcl.records.ranks import rank
from robustcl.training import Files, TrainRecipe
from robustcl.training.logs import check_tensorboard, is_log
from robustcl.training.resume_state import STATE_KEY, read_numbers
from robustcl.training.robust import Deacl
from robustcl.workflows.outputs import is_ours

MOST_LOG = 32_000_000  # bytes


def training_files(options: TrainOptions, recipe: TrainRecipe) -> Files:
    """Name the files of a training run, and refuse those that belong to somebody else.

    Args:
        options: The options.
        recipe: Of the run.

    Returns:
        The files. `resume` is on where there is a state to go on from.

    Raises:
        InputError: When options are not usable, or a file is in the way.
    """
    if options.save_every < 0 or options.measure_every < 0:
        raise InputError("--save-every and --measure-every are 0 or more")
    if options.tensorboard is not None:
        check_tensorboard()
    if options.out.suffix != ".safetensors":
        raise InputError(f"--out {options.out} does not end in .safetensors; name it so")
    longest = options.out.with_suffix(".teacher.state.safetensors").name
    if len(os.fsencode(longest)) > LONGEST_LISTING:
        raise InputError(
            f"--out {options.out} is too long a name: {longest!r}, which may lie beside it, has "
            f"more than {LONGEST_LISTING} bytes; give a shorter one"
        )
    state = options.out.with_suffix(".state.safetensors")
    if state.exists() and not (options.resume or options.overwrite):
        raise InputError(
            f"{str(state)!r} is there from an interrupted run; add --resume to go on, or "
            "--overwrite to start again"
        )
    replaces = options.resume or options.overwrite
    kinds = {
        state: (_is_state, "state of a training run"),
        options.out.with_suffix(".csv"): (is_log, "log of a training run"),
        options.out.with_suffix(".png"): (_is_figure, "figure of a training log"),
    }
    given: tuple[Path, ...] = ()
    if isinstance(recipe.method, Deacl):
        given = (Path(recipe.method.teacher),) if recipe.method.teacher else ()
        if not given:
            place = teacher_place(options.out)
            kinds[place] = (has_description, "checkpoint")
            kinds[place.with_suffix(".csv")] = (is_log, "log of a training run")
            kinds[place.with_suffix(".state.safetensors")] = (_is_state, "state")
    there = options.out.is_file() and not options.out.is_symlink()
    if options.overwrite or not (options.resume and there):  # else see `is_over`
        check_output(
            options.out, overwrite=options.overwrite, ours=is_ours(has_description),
            kind="checkpoint", inputs=given,
        )  # fmt: skip
    for place, (ours, kind) in kinds.items():
        # A state says itself whether it is usable; a link in its place would be replaced by a file.
        if not (options.resume and place == state and not place.is_symlink()):
            check_output(place, overwrite=replaces, ours=is_ours(ours), kind=kind)
    return Files(
        state=state,
        save_every=options.save_every,
        resume=options.resume,
        log=options.out.with_suffix(".csv"),
        measure_every=options.measure_every,
        tensorboard=options.tensorboard,
    )


def teacher_place(out: Path) -> Path:
    """Name the checkpoint of a teacher that is trained beforehand.

    Args:
        out: The student's checkpoint.

    Returns:
        The path beside it.
    """
    return out.with_suffix(".teacher.safetensors")


def session_stem(out: Path) -> Path:
    """Name the lock of a training run, of which each process has its own.

    Args:
        out: The checkpoint.

    Returns:
        As `session_lock` takes it; it is short, whatever the name of the checkpoint.
    """
    name = hashlib.sha256(os.fsencode(out.name)).hexdigest()[:8]
    return out.parent / f".robustcl-{name}-{rank()}"


@contextmanager
def training_session(out: Path) -> Iterator[None]:
    """Keep other sessions from the files of a training run, and remove what dead ones left.

    Args:
        out: The checkpoint.

    Yields:
        Nothing.

    Raises:
        RunError: When another session trains towards this checkpoint.
    """
    with session_lock(session_stem(out), repr(str(out))):
        endings = (".safetensors", ".state.safetensors", ".csv", ".teacher.safetensors",
                   ".teacher.state.safetensors", ".teacher.csv")  # fmt: skip
        remove_dead_files(out.parent, names=[out.with_suffix(ending).name for ending in endings])
        yield


def difference(place: Path, wanted: Description) -> str:
    """Say whether a checkpoint came out of a training run.

    Args:
        place: The checkpoint.
        wanted: As the run describes it, before it has a head.

    Returns:
        What differs, '' where nothing does. A checkpoint that does not say which images it was
        trained on, as of version 0.2, is compared by the name of the data.
    """
    found, _ = read_description(place)
    if found.architecture != wanted.architecture or found.arguments != wanted.arguments:
        return f"its architecture is {found.architecture!r} with {found.arguments}"
    before, now = dict(found.recipe), json.loads(json.dumps(wanted.recipe))
    before.pop("head", None)
    if "data_hash" not in before:
        now.pop("data_hash", None)
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            return f"its {name} is {before.get(name)!r}, not {now.get(name)!r}"
    return ""


def is_over(place: Path, state: Path, wanted: Description, epochs: int) -> bool:
    """Tell whether a training run has saved its checkpoint, and was stopped after that.

    Args:
        place: The checkpoint.
        state: The state of the run, which the end of it removes.
        wanted: As for `difference`.
        epochs: Of the recipe.

    Returns:
        Whether nothing is left to compute. Without --overwrite a checkpoint that is not of this
        run is refused.

    Raises:
        RunError: When the checkpoint is of another run, or it is not known of which images.
    """
    if not place.exists():
        return False
    other = difference(place, wanted)
    known = "data_hash" in read_description(place)[0].recipe
    if not other and not state.exists():
        other = "" if known else "it does not say on which images it was trained"
    elif not other:
        numbers = read_numbers(state)
        trained = numbers["epoch"] >= epochs or numbers["done"] >= 1.0
        if not trained or place.stat().st_mtime_ns < state.stat().st_mtime_ns:
            other = f"{str(state)!r} is of a run that began after it was written"
        elif json.loads(numbers["key"]).get("data_hash") != wanted.recipe["data_hash"]:
            other = "its state is of other images"
    if other:
        raise RunError(
            f"{str(place)!r} exists and is not of this training ({other}); give another --out, or "
            "add --overwrite"
        )
    return True


def last_row(log: Path) -> dict[str, float]:
    """Read the last row of a log.

    Args:
        log: The file.

    Returns:
        Its numbers by name; none where there is no log, or it is damaged.
    """
    try:
        text = read_text(log, most=MOST_LOG)
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        found = {key: float(value) for key, value in rows[-1].items() if value} if rows else {}
    except (ValueError, TypeError, csv.Error):  # too many columns are a list
        return {}
    return {key: value for key, value in found.items() if math.isfinite(value)}


def told(options: TrainOptions, row: dict[str, float], recipe: dict[str, Any]) -> dict[str, Any]:
    """Say of a run that is over what it said of itself.

    Args:
        options: The options.
        row: The last row of its log.
        recipe: What its checkpoint says.

    Returns:
        Entries of the JSON object of `robustcl train`; None for what only a lost log said.
    """
    seconds, steps = row.get("seconds"), row.get("steps")
    speed = None
    if seconds is not None and steps is not None:
        speed = steps * options.batch_size * options.accumulate / max(seconds, 1e-9)
    return {
        "seconds": seconds,
        "images_per_second": speed,
        **(recipe.get("head") or {"labels": 0}),
        **{key: row[key] for key in ("knn_accuracy", "contradiction_share") if key in row},
    }


def _is_state(place: Path) -> bool:
    return header_names(place, STATE_KEY)


def _is_figure(place: Path) -> bool:
    from robustcl.report.training_figure import is_training_figure  # slow to import

    return is_training_figure(place)
