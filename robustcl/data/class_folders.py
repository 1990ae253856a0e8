"""Find the classes and images of a folder, and leave out what programs left behind."""

import os
from dataclasses import dataclass
from pathlib import Path

from robustcl.core.errors import InputError
from robustcl.core.files import is_folder, require_file

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})
# What file systems, synchronizers and notebooks leave behind; hidden names begin with a dot.
STRAY = frozenset({
    *("__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information"),
    *("__pycache__", "thumbs.db", "desktop.ini", "#recycle"),
})
# Names of folders that stand for a split, the one that is taken first, first.
_SPLIT_NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trainset", "train_set"),
    "test": ("test", "testing", "testset", "test_set", "val", "valid", "validation", "valset",
             "eval", "evaluation", "dev", "holdout", "held_out"),
}  # fmt: skip
SPLIT_LIKE = frozenset(name for names in _SPLIT_NAMES.values() for name in names)
_SHOWN = 3
_CURE = "remove it from the images"


@dataclass(frozen=True)
class ClassFolders:
    """Hold what a folder gave.

    Args:
        classes: Name and images of every class folder that has images, sorted by name; none where
            images lie in the folder itself.
        images: Images that lie in the folder itself; left out where there are classes.
        notes: What was left out.
    """

    classes: tuple[tuple[str, tuple[Path, ...]], ...]
    images: tuple[Path, ...]
    notes: tuple[str, ...]


def class_folders(folder: Path) -> ClassFolders:
    """List CLASS/FILE, or FILE where there are no class folders.

    Hidden names, and those that file systems and notebooks leave behind, are left out. Folders of a
    class are searched to any depth.

    Args:
        folder: The folder.

    Returns:
        Classes, images and notes.

    Raises:
        InputError: When a folder cannot be read, there are no images, or the folders are splits
            rather than classes.
    """
    entries = [entry for entry in _entries(folder) if not _is_stray(entry.name)]
    folders = [entry for entry in entries if is_folder(entry)]
    files = [(entry, _files(entry)) for entry in folders]
    found = [(entry, tuple(filter(_is_image, inside))) for entry, inside in files]
    classes = tuple((entry.name, images) for entry, images in found if images)
    loose = tuple(entry for entry in entries if entry not in folders and _is_image(entry))
    for file in loose:
        require_file(file, cure=_CURE)
    _refuse_splits(folder, [name for name, _ in classes])
    notes = []
    empty = [entry.name for entry, images in found if not images]
    if empty:
        notes.append(f"left out {_some(empty)} of {folder.name!r}, which hold no image")
    others = [file for _, inside in files for file in inside if not _is_image(file)]
    if classes and others:
        count = "1 file" if len(others) == 1 else f"{len(others)} files"
        endings = _some(sorted({file.suffix for file in others}))
        notes.append(f"left out {count} that do not end as images do: {endings}")
    if classes and loose:
        names = [file.name for file in loose]
        count = "1 image" if len(loose) == 1 else f"{len(loose)} images"
        notes.append(f"left out {count} beside the class folders: {_some(names)}")
    outside = [file for _, inside in found for file in inside if _leaves(file, folder)]
    if outside:
        count = "1 image is a link" if len(outside) == 1 else f"{len(outside)} images are links"
        notes.append(f"{count} out of {folder.name!r}: {_some([file.name for file in outside])}")
    if not classes and not loose:
        hidden = len(_entries(folder)) - len(entries)
        besides = f"; {hidden} hidden or stray entries do not count" if hidden else ""
        raise InputError(
            f"{str(folder)!r} holds no images; expected CLASS/FILE with one of "
            f"{', '.join(sorted(EXTENSIONS))}{besides}"
        )
    return ClassFolders(classes, () if classes else loose, tuple(notes))


def split_folder(root: Path, split: str) -> tuple[Path | None, str]:
    """Find the folder of a split.

    Args:
        root: The folder that was named.
        split: 'train' or 'test'.

    Returns:
        The folder, such as root/train or root/val; None where the root has none, so that a split
        must be drawn. And what a person should be told, '' for nothing.

    Raises:
        InputError: When the root has the other split only, or a folder may be a split or a class.
    """
    names = {
        entry.name for entry in _entries(root) if is_folder(entry) and not _is_stray(entry.name)
    }
    by_side = {
        side: sorted((n for n in names if n.casefold() in known),
                     key=lambda n, known=known: (known.index(n.casefold()), n != n.casefold(), n))
        for side, known in _SPLIT_NAMES.items()
    }  # fmt: skip
    both = bool(by_side["train"] and by_side["test"])
    if not any(by_side.values()):
        return None, ""
    others = sorted(n for n in names if n.casefold() not in SPLIT_LIKE)
    own = by_side[split]
    if others and not both:
        there = (by_side["train"] or by_side["test"])[0]
        raise InputError(
            f"{str(root)!r} holds {there!r} beside {_some(others)}, so it may be a split or a "
            "class; put classes into train and test folders, each of the same classes"
        )
    if not own:
        there = " and ".join(repr(n) for n in sorted(names) if n.casefold() in SPLIT_LIKE)
        raise InputError(
            f"{str(root)!r} has {there} but no {split!r} folder; add it, or name one folder with "
            f",split=all, as in imagefolder:PATH/{sorted(names)[0]},split=all"
        )
    twice = [n for n in own if n.casefold() == own[0].casefold()]
    if len(twice) > 1:
        raise InputError(f"{str(root)!r} has {_some(twice)}; which is the {split} split?")
    told = f"the {split} split is the folder {own[0]!r}" if own[0] != split else ""
    rest = [name for name in own[1:] if told or split == "test"]
    besides = f", and {_some(rest)} is left aside" if rest else ""
    return root / own[0], (told or (f"the {split} split is {own[0]!r}" if rest else "")) + besides


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"the folder {str(folder)!r} cannot be read ({error.strerror}); allow or remove it"
        ) from error


def _files(folder: Path) -> list[Path]:
    # Folders are entered, links to folders below are not: they may lead round in a ring.
    found, waiting = [], [folder]
    while waiting:
        place = waiting.pop()
        for entry in _scanned(place):
            if _is_stray(entry.name):
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
                continue
            if entry.is_symlink() and is_folder(path):
                continue
            if _is_image(path) and not entry.is_file(follow_symlinks=False):
                require_file(path, cure=_CURE)
            found.append(path)
    return sorted(found)


def _scanned(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(
            f"the folder {str(folder)!r} cannot be read ({error.strerror}); allow or remove it"
        ) from error


def _leaves(file: Path, folder: Path) -> bool:
    # Whether a file of a data set is a link to elsewhere, as is common where data sets share files.
    return file.is_symlink() and not file.resolve().is_relative_to(folder.resolve())


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in EXTENSIONS


def _is_stray(name: str) -> bool:
    return name.startswith(".") or name.casefold() in STRAY


def _refuse_splits(folder: Path, names: list[str]) -> None:
    if names and all(name.casefold() in SPLIT_LIKE for name in names):
        raise InputError(
            f"{str(folder)!r} holds {_some(names)}, which look like splits, not classes; call them "
            "'train' and 'test', or name one of them, as in imagefolder:PATH/val,split=all"
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
