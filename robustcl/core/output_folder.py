"""Write into folders that a command may fill, and nowhere else."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from robustcl.core import atomic
from robustcl.core.errors import InputError, RunError
from robustcl.core.files import objection_to_file
from robustcl.core.listing import (
    LISTING,
    LONGEST_LISTING,
    MARKS,
    PARTS,
    TOPS,
    FileListing,
    are_records,
    foreign_entry,
    free_place,
    has_mark,
    objection_to_name,
    objection_to_root,
    odd,
    read_listing,
    spelled,
)
from robustcl.core.locks import changing
from robustcl.core.terminal import printable


class OutputFolder:
    """Write files into a folder whose content is listed.

    Every method refuses a name that leads out of the folder, also by a link within it; the folder
    itself may be a link. Names have '/' between their parts.

    Args:
        root: The folder; it is made by the first file.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def check_start(self, *, begun: bool = False) -> None:
        """Refuse a folder that is not new, empty or ours, before anything is computed.

        Of a folder that was begun, what our own names lead to is looked at: a link there, or a
        folder, would be found at the end of the work. Temporary files of dead processes go.

        Args:
            begun: Whether the caller knows that the folder was begun, though its manifest is lost.

        Raises:
            RunError: When the folder is not usable; the message names what is in the way.
        """
        found = objection_to_root(self.root)
        if found is None and self.root.exists():
            found = self._odd_entry() if begun or self._begun() else self._foreign()
        if found is not None:
            raise RunError(f"{printable(repr(str(self.root)))} {found}")
        if self.root.exists():
            listing = self._stored() or FileListing()
            files = [Path(name) for name in (*listing.files, *listing.found)]
            for part in (".", *PARTS):
                if not (self.root / part).is_symlink():
                    names = [place.name for place in files if place.parent == Path(part)]
                    atomic.remove_dead_files(self.root / part, names=names)

    def adopt(self, *names: str) -> None:
        """List files that the caller knows to be ours by what they say.

        Args:
            *names: Their names, as of records that were copied from another machine. None says
                that the whole folder is ours: without a list, it begins with what is there.
        """
        if not names:
            with changing(self.root):
                if self._stored() is None:
                    self._write(self._snapshot())
            return
        for name in names:
            self._checked(name)
        known = self._listing().files
        if all(name in known for name in names):
            return
        with changing(self.root):
            listing = self._listing()
            self._write(replace(listing, files=tuple({*listing.files, *names})))

    def claim(self, *names: str) -> None:
        """List files before they are written.

        Args:
            *names: Their names.

        Raises:
            RunError: When one is no plain name, leads through a link, or exists and is not ours.
        """
        for name in names:
            self._checked(name)
        known = self._listing().files
        if all(name in known for name in names):
            return
        with changing(self.root):
            listing = self._listing()
            new = [name for name in dict.fromkeys(names) if name not in listing.files]
            for name in new:
                if os.path.lexists(self.root / name) and name not in listing.found:
                    raise RunError(
                        f"{str(self.root / name)!r} was not written by robustcl, so it is not "
                        "replaced; move it away, or give another --out"
                    )
            self._write(replace(listing, files=(*listing.files, *new)))

    def listed(self) -> frozenset[str]:
        """Name the files that we wrote.

        Returns:
            Their names, whether or not they are still there.
        """
        return frozenset(self._listing().files)

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """Yield a file to be written by its name, which then takes its place.

        Args:
            name: Of the file.

        Yields:
            A path beside it.
        """
        self.claim(name)
        with atomic.replacing(self.root / name) as temporary:
            yield temporary

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open a file that takes its place when the block ends without error.

        Args:
            name: Of the file.

        Yields:
            A binary stream.
        """
        self.claim(name)
        with atomic.writing(self.root / name) as stream:
            yield stream

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file whole.

        Args:
            name: Of the file.
            content: Its content.
        """
        self.claim(name)
        atomic.write_bytes(self.root / name, content)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file whole, in UTF-8.

        Args:
            name: Of the file.
            text: Its content.
        """
        self.claim(name)
        atomic.write_text(self.root / name, text)

    def append(self, name: str, content: bytes) -> None:
        """Append to a file; where that fails, as on a full disk, the file is as it was before.

        Args:
            name: Of the file.
            content: Whole lines.
        """
        self.claim(name)
        with self._appending(name) as handle:
            before, left = os.fstat(handle).st_size, memoryview(content)
            try:
                while left:
                    left = left[os.write(handle, left) :]
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(handle, before)
                raise

    def sync(self, name: str) -> None:
        """Put what was appended on the disk, so that it outlasts the machine as well.

        Args:
            name: Of the file, which may be absent.
        """
        self.claim(name)
        with self._appending(name) as handle:
            os.fsync(handle)

    def cut(self, name: str, size: int) -> None:
        """Shorten a file.

        Args:
            name: Of the file.
            size: Bytes that stay.
        """
        self.claim(name)
        with self._appending(name) as handle:
            os.ftruncate(handle, size)

    def set_aside(self, name: str, kept: str) -> str:
        """Rename a file that is damaged; nothing takes its place.

        Args:
            name: Of the file.
            kept: Its new name; a number is added where that is taken.

        Returns:
            The new name.
        """
        self._checked(name)
        target = free_place(self.root, kept).relative_to(self.root).as_posix()
        self.claim(target)
        (self.root / name).replace(self.root / target)
        return target

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that we wrote; others are left alone.

        Args:
            names: Of the files.
        """
        gone = sorted(set(names) & self.listed())
        for name in gone:
            self._checked(name).unlink(missing_ok=True)
        if gone:
            with changing(self.root):
                listing = self._listing()
                files = tuple(name for name in listing.files if name not in gone)
                self._write(replace(listing, files=files))

    @contextmanager
    def _appending(self, name: str) -> Iterator[int]:
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(place, flags, 0o666)
        try:
            yield handle
        finally:
            os.close(handle)

    def _checked(self, name: str) -> Path:
        # Every part below the root is a plain name, and no part of the path is a link.
        parts, place = name.split("/"), self.root
        for number, part in enumerate(parts):
            objection = objection_to_name(part)
            if objection is not None:
                raise RunError(f"{printable(name)!r} cannot be a file of {str(self.root)!r}: "
                               f"{printable(part)!r} {objection}")  # fmt: skip
            place = place / part
            wrong = odd(place, folder=number < len(parts) - 1)
            if wrong is not None:
                raise RunError(f"{str(place)!r} {wrong}; move it away, or give another --out")
        return place

    def _begun(self) -> bool:
        # With a damaged manifest records or arrays count, from which `--resume` knows the run.
        if has_mark(self.root) or any(map(are_records, self.root.glob("records-*.jsonl"))):
            return True
        damaged = os.path.lexists(self.root / "manifest.json")
        return damaged and any(self.root.glob("arrays/*.npz"))

    def _foreign(self) -> str | None:
        stored = self._stored()
        return foreign_entry(self.root, {LISTING, *stored.files} if stored else set[str]())

    def _odd_entry(self) -> str | None:
        records = [entry.name for entry in self.root.glob("records-*.jsonl")]
        for name in dict.fromkeys((LISTING, *MARKS, *PARTS, *TOPS, *self._names(), *records)):
            wrong = odd(self.root / name, folder=name in PARTS)
            if wrong is not None:
                return f"holds {name!r}, which {wrong}; move it away, or give another --out"
        stored = self._stored()
        known = (*stored.files, *stored.found) if stored else TOPS
        for name in TOPS:
            if name not in known and (self.root / name).exists():
                return (
                    f"holds {name!r}, which robustcl did not write; move it away, or give another "
                    "--out"
                )
        return None

    def _names(self) -> list[str]:
        listing = self._stored() or FileListing()
        return [name for name in (*listing.files, *listing.found) if "/" not in name]

    def _listing(self) -> FileListing:
        stored = self._stored()
        if stored is not None:
            return stored
        return self._snapshot() if has_mark(self.root) else FileListing()

    def _snapshot(self) -> FileListing:
        tops = (entry for entry in self.root.iterdir() if entry.name not in PARTS)
        parts = (self.root / part for part in PARTS)
        inner = (entry for part in parts if not part.is_symlink() for entry in part.glob("*"))
        there = (entry for entry in (*tops, *inner) if entry.is_file() and not entry.is_symlink())
        return FileListing(found=tuple(sorted(e.relative_to(self.root).as_posix() for e in there)))

    def _stored(self) -> FileListing | None:
        # None where there is no list, or what is there is none.
        place = self.root / LISTING
        if not os.path.lexists(place):
            return None
        wrong = odd(place, folder=False)
        if wrong is not None:
            raise RunError(f"{str(place)!r} {wrong}; move it away, or give another --out")
        return read_listing(place)

    def _write(self, listing: FileListing) -> None:
        place = self.root / LISTING
        if os.path.lexists(place) and self._stored() is None:
            if not self._begun():
                raise RunError(
                    f"{str(place)!r} was not written by robustcl, so it is not replaced; give "
                    "another --out"
                )
            place.replace(free_place(self.root, "files.damaged.json"))
        atomic.write_text(place, spelled(listing))


def check_output(
    path: Path,
    *,
    overwrite: bool,
    ours: Callable[[Path], bool],
    kind: str,
    inputs: tuple[Path, ...] = (),
) -> None:
    """Refuse a path at which a file cannot be written, or must not.

    Args:
        path: Where the file goes.
        overwrite: Whether a file of ours may be replaced.
        ours: Tells whether a file that is there is one that robustcl wrote, of the same kind.
        kind: What it is then, as in 'checkpoint'.
        inputs: Files that the command reads, and therefore does not replace.

    Raises:
        InputError: When it is a link, a folder, a pipe, another's file, an input, or in no folder;
            or it exists and may not be replaced.
    """
    shown = printable(repr(str(path)))
    if len(os.fsencode(path.name)) > LONGEST_LISTING:
        raise InputError(
            f"{shown} has a name of more than {LONGEST_LISTING} bytes; give a shorter one"
        )
    if "\0" in str(path):
        raise InputError(f"{shown} has a zero byte, which no path may have; give another --out")
    if path.is_symlink():
        raise InputError(f"{shown} is a link; name the file that is to be written itself")
    if not os.path.lexists(path):
        _check_parents(path, shown)
        return
    objection = objection_to_file(path)
    if objection is not None:
        raise InputError(f"{shown} {objection}; give another --out")
    if not overwrite:
        raise InputError(f"{shown} exists; give another --out, or add --overwrite")
    if any(given.exists() and path.samefile(given) for given in inputs):
        raise InputError(f"{shown} is read by this command; give another --out")
    if not ours(path):
        raise InputError(
            f"{shown} exists and is no {kind} of robustcl, which --overwrite would replace; move "
            "it away, or give another --out"
        )


def _check_parents(path: Path, shown: str) -> None:
    nearest = path.parent
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        what = "a link that leads nowhere" if nearest.is_symlink() else "a file"
        raise InputError(f"{shown} cannot be written: {str(nearest)!r} is {what}, no folder")
