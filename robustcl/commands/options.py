"""State the options that commands share."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from robustcl.data import Dataset, Draw, Matching, Split, load_data
from robustcl.data.match_classes import absent_classes, some_names
from robustcl.errors import InputError, RunError
from robustcl.runs.ranks import rank
from robustcl.runs.records import read_manifest
from robustcl.seeds import check_seed
from robustcl.threat import Norm
from robustcl.views.multi_view import Aggregate


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Say which data, and where to compute.

    Args:
        data: digits, cifar10, cifar100, mnist, fashion-mnist, svhn, stl10, imagefolder:PATH,
            parquet:PATH or npz:PATH, with ',size=N' to resize and crop.
        data_root: Folder of torchvision's data sets.
        download: Download what is missing.
        limit: Use N images only, drawn by --seed with the same share of every class; a larger N
            keeps those of a smaller one.
        device: cpu, cuda, cuda:1, ...
        batch_size: Images per model call; halved when memory runs out.
        seed: Seed of splits, of the draw of --limit, and of noise.
    """

    data: str
    data_root: Path | None = None
    download: bool = False
    limit: int | None = None
    device: str = "cpu"
    batch_size: int = 128
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class LabeledDataOptions(DataOptions):
    """Say how the classes of data are matched with those of a checkpoint.

    Args:
        classes: names (a class is the one of the same name; data with another class is refused),
            known (likewise, but images of other classes are left out), or positions (label k is
            the class at position k, whatever its name).
    """

    classes: Matching = "names"


@dataclass(frozen=True, kw_only=True)
class AuditOptions(LabeledDataOptions):
    """Say which checkpoint is measured, and where the records go.

    Args:
        checkpoint: The .safetensors file, with a head (see `robustcl probe`).
        out: The run folder.
        split: Split of the data: train or test.
        norm: l2, linf or l1; radii are in pixel units of images in [0, 1].
        views: Measure multi-view inference: shift, crop, noise or training, with options as in
            shift:pixels=2,flip=false or noise:sigma=0.25; none by default.
        count: Number of views; --seed draws them.
        aggregate: embedding, score, max, vote or confidence.
        resume: Go on with the run in --out; what is damaged there is measured again.
        mixed_versions: Go on although robustcl or torch is another version; both are recorded.
        plan: Predict from two batches how long so many processes would take, and run nothing.
        arch: Needed only for a checkpoint made from package.module:factory.
        json: Write one JSON object on stdout.
        quiet: No progress bars.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: Path
    split: Split = "test"
    norm: Norm = "l2"
    views: str | None = None
    count: int = 8
    aggregate: Aggregate = "score"
    resume: bool = False
    mixed_versions: bool = False
    plan: int | None = None
    arch: str | None = None
    json: bool = False
    quiet: bool = False


def read_data(
    options: DataOptions,
    *,
    split: Split,
    classes: Sequence[str] | None = None,
    draw: Draw = "stratified",
) -> Dataset:
    """Load the data that the options name, and say what was found.

    Args:
        options: The options.
        split: 'train' or 'test'.
        classes: The class names of the classifier that the data is for; None where there is none.
        draw: How `--limit` draws, see `load_data`.

    Returns:
        The split.

    Raises:
        InputError: When the limit, the batch size or the device is unusable, or the classes of the
            data are not those of the classifier.
    """
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit {options.limit} leaves no image; use 1 or more")
    if options.batch_size < 1:
        raise InputError(f"--batch-size {options.batch_size} is below 1")
    check_seed(options.seed, "--seed")
    check_device(options.device)
    dataset = load_data(
        options.data,
        split=split,
        root=options.data_root,
        download=options.download,
        limit=options.limit,
        seed=options.seed,
        draw=draw,
        classes=classes,
        matching=options.classes if isinstance(options, LabeledDataOptions) else "names",
    )
    tell_data(dataset, classes=classes)
    return dataset


def tell_data(dataset: Dataset, *, classes: Sequence[str] | None = None) -> None:
    """Say how many images and which classes there are, and what was left out.

    Args:
        dataset: The data.
        classes: The class names of the classifier that it is for.
    """
    if rank():
        return
    names = tuple(classes or dataset.class_names)
    present = [name for k, name in enumerate(names) if k in set(dataset.labels.tolist())]
    if not dataset.labeled:
        say(f"data: {dataset.name}, {len(dataset):,} images without labels, so without accuracies")
    else:
        count = len(names) or dataset.num_classes
        absent = absent_classes(dataset.labels, names, count)
        shown = f" ({some_names(present)})" if names else ", by number"
        say(
            f"data: {dataset.name}, {len(dataset):,} images of {count - len(absent)} classes{shown}"
        )
        if absent:
            say(f"no image of {len(absent)} of {count} classes: {some_names(absent)}")
    for note in dataset.notes:
        say(f"note: {note}")


def old_rule(folder: Path, *, resume: bool) -> Draw:
    """Tell how the images of a run are drawn that may have been begun by an older version.

    Args:
        folder: The run folder.
        resume: Whether the run is gone on with.

    Returns:
        'first' for a run that is gone on with and does not say which rows it drew. A run whose
        manifest is damaged is taken as one of this version, whose manifest can be written again.
    """
    if not resume or not (folder / "manifest.json").is_file():
        return "stratified"
    try:
        config = read_manifest(folder).get("config", {})
    except RunError:
        return "stratified"
    return "stratified" if "rows" in config else "first"


def check_device(name: str) -> None:
    """Refuse a device that is not there.

    Args:
        name: cpu, cuda, ...

    Raises:
        InputError: When torch cannot compute there.
    """
    try:
        if torch.zeros(1, device=name).is_meta:
            raise InputError("--device meta computes nothing; use cpu")
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"--device {name} is not usable ({reason}); use cpu") from error


def say(text: str) -> None:
    """Write progress or a warning for people, on stderr.

    Args:
        text: The line.
    """
    sys.stderr.write(f"{text}\n")


def answer(text: str, *, json: bool = False) -> None:
    """Write a line of a command's answer on stdout, or on stderr beside a JSON object.

    Args:
        text: The line.
        json: Whether stdout is for one JSON object.
    """
    (sys.stderr if json else sys.stdout).write(f"{text}\n")


def emit(content: Mapping[str, Any]) -> None:
    """Write one JSON object on stdout.

    Args:
        content: Plain values.
    """
    sys.stdout.write(json.dumps(dict(content), default=str) + "\n")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file unless told to.

    Args:
        path: The file.
        overwrite: Whether it may be replaced.

    Raises:
        InputError: When it exists and may not.
    """
    if path.exists() and not overwrite:
        raise InputError(f"{str(path)!r} exists; give another --out, or add --overwrite")
