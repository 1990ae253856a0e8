"""Load images from tar files in the layout of WebDataset."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustcl.core.choices import Split
from robustcl.core.errors import InputError
from robustcl.core.files import is_folder, parse_json, require_file
from robustcl.data.class_folders import EXTENSIONS
from robustcl.data.images import MOST_FILE
from robustcl.data.listing import Listing, part_of
from robustcl.data.read_labels import read_labels
from robustcl.data.splits import check_split, split_rows
from robustcl.data.streamed_images import hold_images
from robustcl.data.transform import ImageTransform

_CURE = "give webdataset:PATH a .tar file, or a folder of them"
_LABELS = (".cls", ".txt", ".json")
_KEYS = ("label", "cls", "class", "target", "class_name")
_MOST_LABEL = 2**16  # bytes of a label
_MOST_MEMBERS = 10_000_000


@dataclass(frozen=True)
class _Place:
    # Where an image lies: the tar file, the first byte and the number of bytes.
    file: Path
    name: str
    start: int
    size: int


def list_webdataset(
    path: str | Path,
    *,
    split: Split,
    transform: ImageTransform,
    seed: int,
    whole: bool,
    strict: bool = True,
) -> Listing:
    """List PATH/{train,test}*.tar, or the samples of one file or folder, split by seed.

    A sample is the members of one name before the first dot: an image (KEY.jpg), and its label
    (KEY.cls with a number or a name, or KEY.json with `label` or `cls`). Nothing is unpacked to the
    disk, and pickled members are not read.

    Args:
        path: A file or a folder.
        split: 'train' or 'test'.
        transform: What is done to each image.
        seed: Seed of a split that is drawn.
        whole: Serve all samples for both splits.
        strict: Whether an image that cannot be decoded is refused, or left out.

    Returns:
        The listing.

    Raises:
        InputError: When there is no tar file or no image, a file is damaged, or some samples have a
            label and others have none.
    """
    files, draws = _files(Path(path), check_split(split))
    places, texts = _samples(files)
    if not places:
        raise InputError(f"{str(path)!r} holds no image; {_CURE}")
    labels, names = np.full(len(places), -1, dtype=np.int64), ()
    if any(text is not None for text in texts):
        if any(text is None for text in texts):
            lacking = places[texts.index(None)].name
            raise InputError(f"{str(path)!r} has samples without a label, such as {lacking!r}")
        known = [text or "" for text in texts]
        numbers = all(text.isascii() and text.isdecimal() for text in known)
        stored = np.array([int(t) for t in known]) if numbers else np.array(known, dtype=object)
        labels, names, _ = read_labels(stored, (), what=str(path))

    def fetch(rows: np.ndarray) -> list[bytes | Path]:
        found: list[bytes | Path] = []
        for row in rows.tolist():
            one = places[row]
            with one.file.open("rb") as stream:
                stream.seek(one.start)
                found.append(stream.read(one.size))
        return found

    listing = Listing(
        name=f"webdataset/{Path(path).stem}/{split}",
        labels=labels,
        class_names=names,
        load=lambda rows: hold_images(
            fetch,
            rows,
            names=lambda row: f"{places[row].name} of {places[row].file.name}",
            transform=transform,
            strict=strict,
        ),
        labeled=bool((labels >= 0).all()),
    )
    if not draws or whole:
        return listing
    return part_of(listing, split_rows(np.maximum(labels, 0), split, seed=seed))


def _files(path: Path, split: Split) -> tuple[list[Path], bool]:
    if not is_folder(path):
        require_file(path, cure=_CURE)
        return [path], True
    every = sorted(path.glob("*.tar"))
    own = [file for file in every if file.name.lower().startswith(split)]
    if split == "test" and not own:
        own = [file for file in every if file.name.lower().startswith("val")]
    if own:
        return own, False
    if not every:
        raise InputError(f"{str(path)!r} holds no .tar file; {_CURE}")
    if any(file.name.lower().startswith(("train", "test", "val")) for file in every):
        raise InputError(f"{str(path)!r} has no {split}*.tar; {_CURE}")
    return every, True


def _samples(files: list[Path]) -> tuple[list[_Place], list[str | None]]:
    places: list[_Place] = []
    texts: list[str | None] = []
    for file in files:
        try:
            with tarfile.TarFile(file) as archive:
                for image, label in _grouped(archive, file):
                    places.append(image)
                    texts.append(label)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"{str(file)!r} is no tar file, or damaged ({error}); {_CURE}"
                             ) from error  # fmt: skip
    return places, texts


def _grouped(archive: tarfile.TarFile, file: Path) -> Iterator[tuple[_Place, str | None]]:
    # Members of one sample lie side by side.
    key, image, label = "", None, None
    for count, member in enumerate(archive):
        if count > _MOST_MEMBERS:
            raise InputError(f"{str(file)!r} has more than {_MOST_MEMBERS:,} members")
        if not member.isfile() or Path(member.name).name.startswith("."):
            continue
        folder, _, base = member.name.rpartition("/")
        stem, dot, ending = base.partition(".")
        own = f"{folder}/{stem}"
        if own != key:
            if image is not None:
                yield image, label
            key, image, label = own, None, None
        ending = dot + ending.lower()
        if ending in EXTENSIONS and image is None:
            if member.size > MOST_FILE:
                raise InputError(f"{member.name[:80]!r} has {member.size:,} bytes, too many")
            image = _Place(file, member.name, member.offset_data, member.size)
        elif ending in _LABELS and label is None:
            label = _label(archive, member, ending)
    if image is not None:
        yield image, label


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, ending: str) -> str | None:
    stream = archive.extractfile(member)
    if stream is None or member.size > _MOST_LABEL:
        return None
    try:
        text = stream.read().decode().strip()
        if ending != ".json":
            return text or None
        content = parse_json(text)
    except ValueError as error:
        raise InputError(f"{member.name[:80]!r} is no label ({error})") from error
    if not isinstance(content, dict):
        return str(content) if isinstance(content, int | str) else None
    return next((str(content[key]) for key in _KEYS if key in content), None)
