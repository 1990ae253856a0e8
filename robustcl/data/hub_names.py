"""Read the names of classes that the Hugging Face hub writes into a file's metadata."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from robustcl.core.errors import InputError
from robustcl.core.schema import parse

_KEY = b"huggingface"
_MOST_BYTES = 2**26  # of the metadata
_CURE = "write a list of strings, as the datasets library does, or drop the metadata"


@dataclass(frozen=True)
class ClassLabel:
    """State a column of labels, as the datasets library does.

    Args:
        names: Of the classes, by number; None where the column has no names.
    """

    names: tuple[str, ...] | None = None


def hub_names(metadata: Mapping[bytes, bytes] | None, column: str, *, file: str) -> tuple[str, ...]:
    """Read the names of the classes of a column.

    Args:
        metadata: Of the file's schema.
        column: The column of labels.
        file: The file, for messages.

    Returns:
        The names; none where the metadata says nothing of the column.

    Raises:
        InputError: When the metadata is no JSON, or not as the datasets library writes it.
    """
    stored = (metadata or {}).get(_KEY)
    if stored is None:
        return ()
    what = f"the 'huggingface' metadata of {file!r}"
    if len(stored) > _MOST_BYTES:
        raise InputError(f"{what} has {len(stored):,} bytes; {_CURE}")
    try:
        place = msgspec.json.decode(stored)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{what} is no JSON ({error}); {_CURE}") from error
    for key in ("info", "features", column):
        if not isinstance(place, Mapping):
            raise InputError(f"{what} has {key!r} in what is no table; {_CURE}")
        place = place.get(key)
        if place is None:
            return ()
    if not isinstance(place, Mapping) or "names" not in place:
        return ()  # a column of another kind
    label = parse(
        ClassLabel,
        {"names": place["names"]},
        what=f"column {column!r} in {what}",
        error=InputError,
        cure=_CURE,
    )
    return label.names or ()
