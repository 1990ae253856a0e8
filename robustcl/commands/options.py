"""State the options that commands share."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from robustcl.data import Dataset, Split, load_data
from robustcl.errors import InputError
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
        limit: Use the first N images only.
        device: cpu, cuda, cuda:1, ...
        batch_size: Images per model call; halved when memory runs out.
        seed: Seed of splits and noise.
    """

    data: str
    data_root: Path | None = None
    download: bool = False
    limit: int | None = None
    device: str = "cpu"
    batch_size: int = 128
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class AuditOptions(DataOptions):
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


def read_data(options: DataOptions, *, split: Split) -> Dataset:
    """Load the data that the options name.

    Args:
        options: The options.
        split: 'train' or 'test'.

    Returns:
        The split.

    Raises:
        InputError: When the limit, the batch size or the device is unusable.
    """
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit {options.limit} leaves no image; use 1 or more")
    if options.batch_size < 1:
        raise InputError(f"--batch-size {options.batch_size} is below 1")
    check_device(options.device)
    return load_data(
        options.data,
        split=split,
        root=options.data_root,
        download=options.download,
        limit=options.limit,
        seed=options.seed,
    )


def check_device(name: str) -> None:
    """Refuse a device that is not there.

    Args:
        name: cpu, cuda, ...

    Raises:
        InputError: When torch cannot compute there.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name} is not usable ({reason}); use cpu") from error


def say(text: str) -> None:
    """Write a line for people, on stderr.

    Args:
        text: The line.
    """
    sys.stderr.write(f"{text}\n")


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
