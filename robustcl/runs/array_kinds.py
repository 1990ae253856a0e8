"""Declare the arrays of a run folder: kinds of numbers, axes, and which a file has."""

from collections.abc import Mapping

import numpy as np

WHOLE, NUMBER, TEXT = "iu", "fiub", "U"
# By array: kinds of numbers, and axes.
COLUMNS: Mapping[str, tuple[str, int]] = {
    "index": (WHOLE, 1),
    "labels": (WHOLE, 1),
    "embeddings": (NUMBER, 2),
    "clean": (NUMBER, 4),
    "attacked": (NUMBER, 4),
    "radius": (NUMBER, 1),
    "margins": (NUMBER, 3),
    "norms": (NUMBER, 3),
    "counts": (WHOLE, 2),
    "eps": (NUMBER, 1),
    "evaluations": (NUMBER, 1),
}
SHARED = frozenset({"eps", "evaluations", "attack"})  # not about single images
# By file, which arrays it has.
FILES: Mapping[str, frozenset[str]] = {
    "embeddings": frozenset({"index", "labels", "embeddings"}),
    "triples": frozenset({"index", "clean", "attacked", "radius"}),
    "flagged": frozenset({"index", "clean"}),
    "curves": frozenset({"index", "margins", "norms", "counts", "eps", "evaluations"}),
}


def objection_to_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Say why arrays are not those of a file.

    Args:
        name: Of the file, as in `save_arrays`.
        arrays: What it holds.

    Returns:
        What is wrong; '' where nothing is. Stages of a study may hold any numbers and texts.
    """
    for key, array in arrays.items():
        if array.dtype.kind not in NUMBER + TEXT:
            return f"its array {key!r} holds {array.dtype}, no numbers"
    wanted = FILES.get("curves" if name.startswith("curves-") else name)
    if wanted is None:
        return ""
    lacking = sorted(wanted - arrays.keys())
    if lacking:
        return f"it has no array {lacking[0]!r}"
    for key in wanted & COLUMNS.keys():
        kinds, axes = COLUMNS[key]
        array = arrays[key]
        if array.dtype.kind not in kinds or array.ndim != axes:
            return f"its array {key!r} holds {array.dtype} on {array.ndim} axes"
    for key in arrays.keys() - SHARED:
        if not arrays[key].ndim:  # how many rows there are is the reader's to compare
            return f"its array {key!r} has no row for each index"
    if len(arrays["index"]) and int(arrays["index"].min()) < 0:
        return "its array 'index' has one below 0"
    if name.startswith("curves-"):
        return _curves(arrays)
    if "attacked" in wanted and arrays["attacked"].shape != arrays["clean"].shape:
        return "its arrays 'clean' and 'attacked' are of different shapes"
    return ""


def _curves(arrays: Mapping[str, np.ndarray]) -> str:
    budgets, times = len(arrays["eps"]), len(arrays["evaluations"])
    for key, shape in (("margins", (budgets, times)), ("norms", (budgets, times)),
                       ("counts", (budgets,))):  # fmt: skip
        if arrays[key].shape[1:] != shape:
            return f"its array {key!r} is {arrays[key].shape[1:]} for each image, not {shape}"
    return "" if times else "its array 'evaluations' is empty"
