"""Load a data set by its specification, as on the command line."""

from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from robustcl.core.choices import Draw, Matching, Split
from robustcl.core.errors import InputError
from robustcl.core.lazy import declared
from robustcl.data.class_names import match_labels, matched_names
from robustcl.data.dataset import Dataset
from robustcl.data.listing import Listing
from robustcl.data.splits import check_split, draw_order
from robustcl.data.transform import COLORS, INTERPOLATIONS, ImageTransform, check_size
from robustcl.declarations.sources import SOURCE_ROWS

SOURCES = tuple(name if row.takes is None else f"{name}:PATH" for name, row in SOURCE_ROWS.items())
_OPTIONS = ("size", "resize", "interpolation", "color", "exif")  # of every source


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
    strict: bool = True,
    transform: ImageTransform | None = None,
) -> Dataset:
    """Load the data set that a specification names, see `list_data`.

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
        classes: The class names of the classifier that the data is for.
        matching: How classes are matched, see `match_labels`.
        strict: Whether a file that cannot be decoded is refused; otherwise it is left out and told.
        transform: What is done to each image where the specification does not say.

    Returns:
        The data set; it knows the rows that were drawn, and notes tell what was left out.

    Raises:
        InputError: When the source or an option is unknown, the path is missing, or the data is
            not images in [0, 1] with labels from 0, or its classes are not the classifier's.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit} is below 1; leave it out to use every image")
    listing = list_data(
        spec,
        split=split,
        root=root,
        download=download,
        seed=seed,
        classes=classes,
        matching=matching,
        strict=strict,
        transform=transform,
    )
    return draw_images(listing, limit=limit, seed=seed, draw=draw)


def draw_images(
    listing: Listing, *, limit: int | None, seed: int = 0, draw: Draw = "stratified"
) -> Dataset:
    """Load images of a listing.

    Args:
        listing: From `list_data`.
        limit: How many; None for all that are usable.
        seed: Of the draw.
        draw: As in `load_data`.

    Returns:
        The data set.
    """
    rows = listing.usable
    if limit is not None and limit < len(rows):
        labels = listing.labels[rows]
        order = np.arange(limit) if draw == "first" else draw_order(labels, seed=seed)
        rows = rows[order[:limit]]
    return listing.dataset(None if len(rows) == len(listing.labels) else rows)


def list_data(
    spec: str,
    *,
    split: str = "test",
    root: str | Path | None = None,
    download: bool = False,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    matching: Matching = "names",
    strict: bool = True,
    transform: ImageTransform | None = None,
) -> Listing:
    """List the images that a specification names, before any of them is loaded.

    Known are digits, cifar10, cifar100, mnist, fashion-mnist, svhn, stl10, imagefolder:PATH,
    parquet:PATH, npz:PATH, hub:PATH (saved by the `datasets` library), webdataset:PATH (tar files),
    or a path alone, whose content tells. Options may follow: `,size=N` (resize the shorter side to
    N, or to that of `,resize=N`, and crop the center), `,interpolation=bicubic`, `,color=rgb` or
    `gray`, `,exif=apply`, `,labels=FILE` (a table of labels beside a flat folder) and `,split=all`
    (serve all images of a source that has no split of its own, instead of drawing 80/20 by seed).

    Args:
        spec: The specification.
        split: 'train' or 'test'.
        root: Folder of torchvision's files.
        download: Whether torchvision may download what is missing.
        seed: Seed of the split where the source has none.
        classes: The class names of the classifier that the data is for; labels become positions
            among them (see `match_labels`), -1 where it has no such class. None keeps the data's
            own.
        matching: How classes are matched, see `match_labels`.
        strict: Whether a file that cannot be decoded is refused; otherwise it is left out and told.
        transform: What is done to each image where the specification does not say.

    Returns:
        The listing; notes tell what will be left out.

    Raises:
        InputError: When the source or an option is unknown, the path is missing, or the classes are
            not the classifier's.
    """
    side = check_split(split)
    listing = _listed(
        spec, side, root=root, download=download, seed=seed, strict=strict, transform=transform
    )
    if classes is None or not listing.labeled:
        return listing
    labels, by_name, told = match_labels(
        listing.labels, listing.class_names, classes, matching=matching, what=listing.name
    )
    names = matched_names(listing.class_names, classes, by_name=by_name, matching=matching)
    notes = (*listing.notes, *told)
    return replace(listing, labels=labels, class_names=names, notes=notes, matched=True)


def _listed(
    spec: str,
    side: Split,
    *,
    root: str | Path | None,
    download: bool,
    seed: int,
    strict: bool,
    transform: ImageTransform | None,
) -> Listing:
    named, options = _parted(spec)
    name, colon, path = named.partition(":")
    row = SOURCE_ROWS.get(name)
    if row is None or (colon and row.takes is None):
        name, path = _found_source(named, spec), named
        row = SOURCE_ROWS[name]
    elif row.takes is not None and not path:
        raise InputError(f"{spec!r} has no path; write {name}:PATH")
    known = (*(row.takes or ()), *_OPTIONS)
    unknown = next((key for key in options if key not in known), None)
    if unknown is not None:
        raise InputError(f"unknown option {unknown!r} in {spec!r}; {name} takes {', '.join(known)}")
    if options.get("split", "all") != "all":
        raise InputError(f"split {options['split']!r} in {spec!r} is unknown; only split=all is")
    how = _transform(options, spec, transform or ImageTransform())
    given: dict[str, object] = {"name": name, "split": side, "seed": seed, "strict": strict}
    given |= {"root": root, "download": download, "path": Path(path), "transform": how}
    given |= {"whole": "split" in options, "labels": options.get("labels")}
    listed = declared(f"data.{row.home}")
    wanted = signature(listed).parameters
    listing = listed(**{key: given[key] for key in wanted if key in given})
    if how == ImageTransform() or "transform" in wanted:
        return listing
    return replace(listing, load=lambda rows: how.of_array(np.asarray(listing.load(rows))))


def _parted(spec: str) -> tuple[str, dict[str, str]]:
    # Options are split from the right, so that a path may hold commas.
    text, options = spec, dict[str, str]()
    while "," in text and "=" in text.rpartition(",")[2]:
        text, _, option = text.rpartition(",")
        key, _, value = option.partition("=")
        options[key] = value
    return text, options


def _found_source(text: str, spec: str) -> str:
    # A path alone: what lies there tells which source it is.
    place = Path(text)
    try:
        there = bool(text) and place.exists()
    except (OSError, ValueError):  # too long, or a zero byte
        there = False
    if not there:
        raise InputError(
            f"unknown data source {spec[:300]!r}; known are {', '.join(SOURCES)}, or the path of a "
            "folder or file of images"
        )
    if not place.is_dir():
        endings = {".npz": "npz", ".parquet": "parquet", ".tar": "webdataset", ".arrow": "hub"}
        found = endings.get(place.suffix.lower())
        if found is None:
            raise InputError(
                f"{text[:300]!r} is no folder, and no file that ends in {', '.join(endings)}"
            )
        return found
    names = {entry.name for entry in place.iterdir()}
    if names & {"dataset_dict.json", "state.json"} or any(n.endswith(".arrow") for n in names):
        return "hub"
    kinds = (("parquet", "*.parquet"), ("parquet", "data/*.parquet"), ("webdataset", "*.tar"))
    for source, pattern in kinds:
        if any(place.glob(pattern)):
            return source
    return "npz" if names & {"train.npz", "test.npz"} else "imagefolder"


def _transform(options: dict[str, str], spec: str, otherwise: ImageTransform) -> ImageTransform:
    # What the options say; what they do not say is as the model's own files have it.
    given: dict[str, Any] = {}
    for key in ("size", "resize"):
        if key in options:
            given[key] = _side(key, options[key], spec)
    if "size" in given:
        given["crop"] = given.pop("size")
        given.setdefault("resize", given["crop"])
    how = options.get("interpolation", otherwise.interpolation)
    if how not in INTERPOLATIONS:
        raise InputError(f"interpolation {how[:60]!r} is none of {', '.join(INTERPOLATIONS)}")
    color, exif = options.get("color"), options.get("exif")
    if color not in (None, *COLORS) or exif not in (None, "apply"):
        wrong = f"color={color}" if color not in (None, *COLORS) else f"exif={exif}"
        raise InputError(f"{wrong[:60]!r} in {spec[:200]!r}; write color=rgb, color=gray, "
                         "exif=apply")  # fmt: skip
    if color is not None:
        given["channels"] = COLORS[color]
    if exif is not None:
        given["upright"] = True
    return replace(otherwise, interpolation=how, **given)


def _side(key: str, value: str, spec: str) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) < 10) or int(value) < 1:
        raise InputError(f"{key} {value[:60]!r} in {spec[:200]!r} is not a whole number >= 1")
    check_size(int(value))
    return int(value)
