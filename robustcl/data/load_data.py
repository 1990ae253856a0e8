"""Load a data set by its specification, as on the command line."""

from pathlib import Path

from robustcl.data.dataset import Dataset
from robustcl.data.digits import digits
from robustcl.data.imagefolder import imagefolder
from robustcl.data.npz import npz
from robustcl.data.parquet import parquet
from robustcl.data.splits import check_split
from robustcl.data.torchvision_data import TORCHVISION, torchvision_data
from robustcl.errors import InputError

PATH_SOURCES: dict[str, tuple[str, ...]] = {
    "imagefolder": ("size", "split"),
    "parquet": ("size", "split"),
    "npz": ("split",),
}
SOURCES = (
    "digits",
    *TORCHVISION,
    "imagefolder:PATH[,size=N]",
    "parquet:PATH[,size=N]",
    "npz:PATH",
)


def load_data(
    spec: str,
    *,
    split: str = "test",
    root: str | Path | None = None,
    download: bool = False,
    limit: int | None = None,
    seed: int = 0,
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
        limit: Keep only the first so many images; None for all.
        seed: Seed of the split, where the source has none.

    Returns:
        The data set.

    Raises:
        InputError: When the source or an option is unknown, the path is missing, or the data is
            not images in [0, 1] with labels from 0.
    """
    side = check_split(split)
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit} is below 1; leave it out to use every image")
    name, colon, rest = spec.partition(":")
    if name in PATH_SOURCES:
        if not rest:
            raise InputError(f"{spec!r} has no path; write {name}:PATH")
        path, size, whole = _options(name, rest, spec)
        if name == "imagefolder":
            data = imagefolder(path, split=side, size=size, seed=seed, whole=whole)
        elif name == "parquet":
            data = parquet(path, split=side, size=size, seed=seed, whole=whole, limit=limit)
        else:
            data = npz(path, split=side, seed=seed, whole=whole)
    elif colon or name not in ("digits", *TORCHVISION):
        raise InputError(f"unknown data source {spec!r}; known are {', '.join(SOURCES)}")
    elif name == "digits":
        data = digits(split=side, seed=seed)
    else:
        data = torchvision_data(name, split=side, root=root, download=download)
    return data if limit is None else data.select(slice(limit))


def _options(source: str, text: str, spec: str) -> tuple[Path, int | None, bool]:
    # Options are split from the right, so that a path may hold commas.
    size, whole = None, False
    while "," in text and "=" in text.rpartition(",")[2]:
        text, _, option = text.rpartition(",")
        key, _, value = option.partition("=")
        if key not in PATH_SOURCES[source]:
            raise InputError(
                f"unknown option {key!r} in {spec!r}; {source} takes "
                f"{', '.join(PATH_SOURCES[source])}"
            )
        if key == "size":
            if not value.isdecimal() or int(value) < 1:
                raise InputError(f"size {value!r} in {spec!r} is not a whole number >= 1")
            size = int(value)
        elif value != "all":
            raise InputError(f"split {value!r} in {spec!r} is unknown; only split=all is")
        else:
            whole = True
    return Path(text), size, whole
