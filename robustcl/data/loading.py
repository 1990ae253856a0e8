"""Load a data set by its specification, as on the command line."""

from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np

from robustcl.core.choices import Draw, Matching, Split
from robustcl.core.errors import InputError
from robustcl.core.lazy import declared
from robustcl.data.class_names import match_labels, matched_names
from robustcl.data.dataset import Dataset
from robustcl.data.images import check_size
from robustcl.data.listing import Listing
from robustcl.data.splits import check_split, draw_order
from robustcl.declarations.sources import SOURCE_ROWS

SOURCES = tuple(
    name if row.takes is None else f"{name}:PATH" + ("[,size=N]" if "size" in row.takes else "")
    for name, row in SOURCE_ROWS.items()
)


def load_data(
    spec: str,
    *,
    split: str = "test",
    root: str | Path | None = None,
    download: bool = False,
    limit: int | None = None,
    seed: int = 0,
    draw: Draw = "stratified",
    classes: Sequence[str] | None = None,
    matching: Matching = "names",
) -> Dataset:
    """Load the data set that a specification names.

    Known are digits, cifar10, cifar100, mnist, fashion-mnist, svhn, stl10, imagefolder:PATH,
    parquet:PATH and npz:PATH. After a PATH may follow `,size=N` (imagefolder and parquet: resize
    the shorter side to N, crop the center) and `,split=all` (serve all images of a source that
    has no split of its own, instead of drawing 80/20 by seed).

    Args:
        spec: The specification.
        split: 'train' or 'test'.
        root: Folder of torchvision's files.
        download: Whether torchvision may download what is missing.
        limit: Keep only so many images; None for all. A larger limit keeps the images of a smaller
            one, at the same positions.
        seed: Seed of the draw of `limit`, and of the split where the source has none.
        draw: 'stratified' draws the images that `limit` keeps, with the same share of every class;
            'first' takes the first ones, as version 0.1.0 did.
        classes: The class names of the classifier that the data is for; labels become positions
            among them (see `match_labels`). None keeps the data's own.
        matching: How classes are matched, see `match_labels`.

    Returns:
        The data set; it knows the rows that were drawn, and notes tell what was left out.

    Raises:
        InputError: When the source or an option is unknown, the path is missing, or the data is
            not images in [0, 1] with labels from 0, or its classes are not the classifier's.
    """
    side = check_split(split)
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit} is below 1; leave it out to use every image")
    listing = _listed(spec, side, root=root, download=download, seed=seed)
    rows, names, notes = np.arange(len(listing.labels)), listing.class_names, listing.notes
    labels = listing.labels
    if classes is not None and listing.labeled:
        labels, by_name, told = match_labels(
            labels, names, classes, matching=matching, what=listing.name
        )
        rows, notes = np.flatnonzero(labels >= 0), (*notes, *told)
        names = matched_names(names, classes, by_name=by_name, matching=matching)
    if limit is not None and limit < len(rows):
        order = np.arange(limit) if draw == "first" else draw_order(labels[rows], seed=seed)
        rows = rows[order[:limit]]
    listing = replace(listing, labels=labels, class_names=names, notes=notes)
    return listing.dataset(None if len(rows) == len(labels) else rows)


def _listed(
    spec: str, side: Split, *, root: str | Path | None, download: bool, seed: int
) -> Listing:
    name, colon, rest = spec.partition(":")
    row = SOURCE_ROWS.get(name)
    if row is None or (colon and row.takes is None):
        raise InputError(f"unknown data source {spec!r}; known are {', '.join(SOURCES)}")
    given: dict[str, object] = {"name": name, "split": side, "seed": seed}
    given |= {"root": root, "download": download}
    if row.takes is not None:
        if not rest:
            raise InputError(f"{spec!r} has no path; write {name}:PATH")
        given["path"], given["size"], given["whole"] = _options(name, row.takes, rest, spec)
    listed = declared(f"data.{row.home}")
    return listed(**{key: given[key] for key in signature(listed).parameters if key in given})


def _options(
    source: str, takes: tuple[str, ...], text: str, spec: str
) -> tuple[Path, int | None, bool]:
    # Options are split from the right, so that a path may hold commas.
    size, whole = None, False
    while "," in text and "=" in text.rpartition(",")[2]:
        text, _, option = text.rpartition(",")
        key, _, value = option.partition("=")
        if key not in takes:
            raise InputError(
                f"unknown option {key!r} in {spec!r}; {source} takes {', '.join(takes)}"
            )
        if key == "size":
            if not (value.isascii() and value.isdecimal() and len(value) < 10) or int(value) < 1:
                raise InputError(f"size {value!r} in {spec!r} is not a whole number >= 1")
            size = int(value)
            check_size(size)
        elif value != "all":
            raise InputError(f"split {value!r} in {spec!r} is unknown; only split=all is")
        else:
            whole = True
    return Path(text), size, whole
