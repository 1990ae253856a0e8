"""Read and say what commands share."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from robustcl.core.choices import Draw, Split
from robustcl.core.errors import InputError, RunError
from robustcl.core.locks import patiently
from robustcl.core.seeds import check_seed
from robustcl.core.terminal import say
from robustcl.data import Dataset
from robustcl.data.class_names import absent_classes, some_names
from robustcl.data.listing import Listing
from robustcl.data.loading import draw_images, list_data
from robustcl.data.transform import ImageTransform
from robustcl.options.shared import DataOptions, LabeledDataOptions
from robustcl.records.ranks import rank
from robustcl.records.reading import read_manifest
from robustcl.workflows.models import matching_of


def read_data(
    options: DataOptions,
    *,
    split: Split,
    classes: Sequence[str] | None = None,
    draw: Draw = "stratified",
    transform: ImageTransform | None = None,
) -> Dataset:
    """Load the data that the options name, and say what was found.

    Args:
        options: The options.
        split: 'train' or 'test'.
        classes: The class names of the classifier that the data is for; None where there is none.
        draw: How `--limit` draws, see `load_data`.
        transform: How the model's own files bring images to its size; None for not.

    Returns:
        The split.

    Raises:
        InputError: When the limit, the batch size or the device is unusable, or the classes of the
            data are not those of the classifier.
    """
    listing = listed_data(options, split=split, classes=classes, transform=transform)
    return drawn_data(options, listing, limit=options.limit, classes=classes, draw=draw)


def listed_data(
    options: DataOptions,
    *,
    split: Split,
    classes: Sequence[str] | None = None,
    transform: ImageTransform | None = None,
) -> Listing:
    """List the data that the options name, before any image is loaded.

    Args:
        options: The options.
        split: 'train' or 'test'.
        classes: As for `read_data`.
        transform: Likewise.

    Returns:
        The listing.

    Raises:
        InputError: As of `read_data`.
    """
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit {options.limit} leaves no image; use 1 or more")
    if options.batch_size < 1:
        raise InputError(f"--batch-size {options.batch_size} is below 1")
    check_seed(options.seed, "--seed")
    check_device(options.device)
    matching = matching_of(options.classes) if isinstance(options, LabeledDataOptions) else "names"
    listed = partial(
        list_data,
        options.data,
        split=split,
        root=options.data_root,
        download=options.download,
        seed=options.seed,
        classes=classes,
        matching=matching,
        strict=options.strict,
        transform=transform,
    )
    return patiently(listed, what=options.data)


def drawn_data(
    options: DataOptions,
    listing: Listing,
    *,
    limit: int | None,
    classes: Sequence[str] | None = None,
    draw: Draw = "stratified",
) -> Dataset:
    """Load images of a listing, and say what was found.

    Args:
        options: The options that name the data.
        listing: Of it.
        limit: How many images; None for all.
        classes: As for `read_data`.
        draw: Likewise.

    Returns:
        The images.
    """
    drawn = partial(draw_images, listing, limit=limit, seed=options.seed, draw=draw)
    dataset = patiently(drawn, what=options.data)
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
