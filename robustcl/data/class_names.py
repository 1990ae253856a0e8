"""Bring the labels of data into the order of a classifier's classes, by their names."""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robustcl.core.choices import MATCHINGS, Matching
from robustcl.core.errors import InputError
from robustcl.data.dataset import Dataset

_SHOWN = 5  # names that a message lists


def match_labels(
    labels: np.ndarray,
    names: Sequence[str],
    classes: Sequence[str],
    *,
    matching: Matching = "names",
    what: str,
) -> tuple[np.ndarray, bool, tuple[str, ...]]:
    """Turn labels of data into positions among a classifier's classes.

    Where both sides name their classes, a label becomes the position of the class of the same name.
    A side whose names are the numbers 0, 1, ... has none, unless the other side uses these numbers
    too. Then labels are positions already, and the numbers of classes have to agree. To a
    classifier that has these numbers in another order, label k is the class called k.

    Args:
        labels: (N,) integers from 0, of all images of the split.
        names: By label the data's name of the class; none where the data has no names.
        classes: The classifier's names, by position.
        matching: 'names' refuses a class that the classifier lacks, 'known' leaves its images out,
            'positions' takes labels as positions whatever names and numbers of classes say.
        what: Name of the data, for messages.

    Returns:
        (N,) positions, -1 for images that are left out; whether classes were matched by name; and
        what a person should be told.

    Raises:
        InputError: When a class is unknown, a name stands twice, or the numbers of classes differ
            where a side has no names.
    """
    if matching not in MATCHINGS:
        raise InputError(f"classes are matched by {', '.join(MATCHINGS)}, not {matching!r}")
    if not len(labels):
        raise InputError(
            f"{what!r} holds no image; where its split is drawn, as for a source without train "
            "and test of its own, ,split=all serves every image"
        )
    given, known = _plain(names), _plain(classes)
    in_order = sorted(known, key=_number)
    if not given and matching != "positions" and known != in_order and _are_numbers(in_order):
        # Numbers in the order of folders, '0', '1', '10', '2': label 2 is the class called '2'.
        names = given = in_order if labels.max() < len(known) else []
    if matching == "positions" or _nameless(given, known):
        return labels, False, _as_positions(labels, names, classes, matching, what)
    _refuse_twice(given, names, what)
    _refuse_twice(known, classes, "the classifier")
    position = {name: number for number, name in enumerate(known)}
    unknown = [k for k in range(len(given)) if given[k] not in position]
    left_out = np.isin(labels, unknown)
    if unknown and matching == "names":
        raise InputError(_unknown([names[k] for k in unknown], classes, what))
    table = np.array([position.get(name, -1) for name in given], dtype=np.int64)
    if left_out.all():
        raise InputError(
            f"{what!r} has no image of a class of the classifier ({some_names(classes)}); its own "
            f"classes are {some_names(names)}"
        )
    told = []
    if unknown:
        told.append(
            f"{int(left_out.sum())} of {len(labels)} images are left out, of "
            f"{'a class' if len(unknown) == 1 else f'{len(unknown)} classes'} that the classifier "
            f"lacks: {some_names([names[k] for k in unknown])}"
        )
    return table[labels], True, tuple(told)


def match_classes(
    dataset: Dataset, classes: Sequence[str], *, matching: Matching = "names"
) -> Dataset:
    """Bring a data set's labels into the order of a classifier's classes, by their names.

    Args:
        dataset: The data; without labels it is returned as it is.
        classes: The classifier's `class_names`.
        matching: See `match_labels`.

    Returns:
        The data with labels that are positions among `classes`, without images of unknown classes
        where `matching` is 'known'; what was done is added to its notes.

    Raises:
        InputError: When classes do not fit (see `match_labels`).
    """
    if not dataset.labeled:
        return dataset
    labels, by_name, told = match_labels(
        dataset.labels, dataset.class_names, classes, matching=matching, what=dataset.name
    )
    kept = np.flatnonzero(labels >= 0)
    part = dataset if len(kept) == len(labels) else dataset.select(kept)
    names = matched_names(dataset.class_names, classes, by_name=by_name, matching=matching)
    notes = (*dataset.notes, *told)
    return replace(part, labels=labels[kept], class_names=names, notes=notes)


def matched_names(
    names: tuple[str, ...], classes: Sequence[str], *, by_name: bool, matching: Matching
) -> tuple[str, ...]:
    """Name the classes of data after `match_labels`.

    Args:
        names: The data's own names.
        classes: The classifier's.
        by_name: Whether classes were matched by name.
        matching: How they were to be matched.

    Returns:
        The classifier's names where classes were matched by name; none where labels were declared
        to be positions; else the data's own.
    """
    if by_name:
        return tuple(classes)
    return () if matching == "positions" else names


def check_classes(dataset: Dataset, classes: Sequence[str]) -> None:
    """Refuse data whose labels are not positions among a classifier's classes.

    Args:
        dataset: The data.
        classes: The classifier's `class_names`.

    Raises:
        InputError: When a label is beyond the classes, or both sides name their classes and the
            names at a position differ.
    """
    if not dataset.labeled:
        return
    if int(dataset.labels.max()) >= len(classes):
        raise InputError(
            f"{dataset.name!r} has the label {int(dataset.labels.max())} but the classifier has "
            f"{len(classes)} classes; probe the checkpoint on this data"
        )
    given, known = _plain(dataset.class_names), _plain(classes)
    if given == known or _nameless(given, known):
        return
    used = np.unique(dataset.labels).tolist()
    wrong = [k for k in used if given[k] != known[k]]
    if wrong:
        raise InputError(
            f"label {wrong[0]} of {dataset.name!r} is {dataset.class_names[wrong[0]]!r}, but that "
            f"class of the classifier is {classes[wrong[0]]!r}; match_classes(dataset, "
            "classifier.class_names) puts labels into its order"
        )


def absent_classes(labels: np.ndarray, names: Sequence[str], count: int) -> tuple[str, ...]:
    """Name the classes that have no image.

    Args:
        labels: (N,) positions.
        names: By position; numbers where there are none.
        count: Number of classes.

    Returns:
        Their names.
    """
    there = set(labels.tolist())
    every = list(names) or [str(k) for k in range(count)]
    return tuple(name for k, name in enumerate(every[:count]) if k not in there)


def same_classes(first: Sequence[str], second: Sequence[str]) -> bool:
    """Tell whether two classifiers may have the same classes at the same positions.

    Args:
        first: Class names by position.
        second: Likewise.

    Returns:
        Whether the names are equal, or one side has as many numbers in place of names.
    """
    one, other = _plain(first), _plain(second)
    return one == other or (len(one) == len(other) and _nameless(one, other))


def some_names(names: Sequence[str]) -> str:
    """List names in a message, the first few of many.

    Args:
        names: The names.

    Returns:
        One line.
    """
    shown = ", ".join(repr(str(name)) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _as_positions(
    labels: np.ndarray, names: Sequence[str], classes: Sequence[str], matching: Matching, what: str
) -> tuple[str, ...]:
    count = max(len(names), int(labels.max()) + 1 if len(labels) else 0)
    if matching != "positions" and count != len(classes):
        side = f"has {count} classes" if names else f"has no class names and labels to {count - 1}"
        raise InputError(
            f"{what!r} {side}, the classifier has {len(classes)} ({some_names(classes)}): which "
            "label is which class is not known; name the classes, or add --classes positions to "
            "take label k as the class at position k"
        )
    if int(labels.max()) >= len(classes):
        raise InputError(
            f"{what!r} has the label {int(labels.max())} but the classifier has {len(classes)} "
            "classes; probe the checkpoint on this data"
        )
    if tuple(names) == tuple(classes):
        return ()
    if not names and _are_numbers(_plain(classes)):
        return ()  # neither side has names
    said = [repr(name) for name in names] or [f"label {k}" for k in range(len(classes))]
    pairs = [f"{label} is {name!r}" for label, name in zip(said, classes, strict=False)]
    listed = ", ".join(pairs[:3]) + (", ..." if len(pairs) > 3 else "")
    return (f"labels are taken as positions among the classifier's classes: {listed}",)


def _plain(names: Sequence[str]) -> list[str]:
    # One spelling of letters with accents, which file systems store in two.
    return [unicodedata.normalize("NFC", str(name)) for name in names]


def _nameless(given: Sequence[str], known: Sequence[str]) -> bool:
    # Whether a side has no names: none at all, or numbers that the other side does not use.
    either = _are_numbers(known) or _are_numbers(given)
    return not given or (either and not set(given) & set(known))


def _are_numbers(names: Sequence[str]) -> bool:
    return list(names) == [str(k) for k in range(len(names))]


def _number(name: str) -> int:
    return int(name) if name.isascii() and name.isdecimal() else -1


def _refuse_twice(names: Sequence[str], shown: Sequence[str], what: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            f"{what} has two classes called {shown[names.index(twice[0])]!r}; rename one, or add "
            "--classes positions"
        )


def _unknown(unknown: Sequence[str], classes: Sequence[str], what: str) -> str:
    close = difflib.get_close_matches(unknown[0].strip().lower(), [c.lower() for c in classes], 1)
    guess = next((c for c in classes if close and c.lower() == close[0]), None)
    hint = f", perhaps {guess!r} is meant" if guess is not None else ""
    number = "a class" if len(unknown) == 1 else f"{len(unknown)} classes"
    return (
        f"{what!r} has {number} that the classifier lacks: {some_names(unknown)}{hint}; it has "
        f"{some_names(classes)}; rename, or add --classes known to leave such images out"
    )
