"""Read a column of labels: integers, or the names of classes."""

import numpy as np

from robustcl.core.errors import InputError

_MOST = 999_999  # of a label; what is larger is a mark, or the number of something else


def read_labels(
    stored: np.ndarray, names: tuple[str, ...], *, what: str
) -> tuple[np.ndarray, tuple[str, ...], bool]:
    """Turn what a file holds into integers from 0 with the names of their classes.

    Args:
        stored: (N,) integers, or names.
        names: The names of classes that the file states elsewhere; may be empty.
        what: The file, for messages.

    Returns:
        (N,) int64 labels, class names, and whether there are labels: -1 throughout means none.
        Labels that are names are numbered by the stated names, or else in alphabetical order.

    Raises:
        InputError: When labels are of another type, or a name is not among those that are stated.
    """
    if stored.dtype.kind in "USO":
        texts = as_texts(stored, what=what)
        own = names or tuple(sorted(set(texts)))
        strangers = sorted(set(texts) - set(own))
        if strangers:
            raise InputError(
                f"{what!r} has the label {strangers[0]!r}, which is not among its class names "
                f"({', '.join(own[:5])}, ...)"
            )
        number = {name: k for k, name in enumerate(own)}
        return np.array([number[text] for text in texts], dtype=np.int64), own, True
    if len(names) > _MOST + 1:
        raise InputError(f"{what!r} has {len(names):,} class names; {_MOST + 1:,} are the most")
    if stored.dtype.kind not in "iu":
        raise InputError(f"{what!r} has labels of type {stored.dtype}; use integers from 0")
    low, high = (int(stored.min()), int(stored.max())) if len(stored) else (0, 0)
    if low == high == -1:
        return stored.astype(np.int64), (), False
    if low < 0:
        raise InputError(
            f"{what!r} has the label {low}; labels are integers from 0, so drop the images "
            "without a label (often marked -1)"
        )
    if high > _MOST or (names and high >= len(names)):
        known = f"but {len(names)} class names" if names else f"beyond {_MOST}"
        raise InputError(
            f"{what!r} has the label {high}, {known}; number the classes from 0, and give each a "
            "name or none"
        )
    return stored.astype(np.int64), names, True


def as_texts(stored: np.ndarray, *, what: str) -> tuple[str, ...]:
    """Read names that a file holds as text or as bytes.

    Args:
        stored: (N,) names.
        what: The file, for messages.

    Returns:
        The texts.

    Raises:
        InputError: When one is neither, or no valid Unicode.
    """
    try:
        return tuple(_as_text(entry) for entry in stored)
    except InputError as error:
        raise InputError(f"{what!r}: {error}") from error
    except (ValueError, SystemError) as error:  # a number beyond those of Unicode
        raise InputError(f"{what!r} has a class name that is no text ({error})") from error


def _as_text(entry: object) -> str:
    if isinstance(entry, bytes):
        try:
            return entry.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"the class name {entry!r} is not UTF-8; store it as text") from error
    if not isinstance(entry, str):
        raise InputError(f"the class name {entry!r} is no text; store names as strings")
    return str(entry)
