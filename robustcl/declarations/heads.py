"""Declare the heads that are fitted on a frozen encoder: one row per head."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HeadRow:
    """Describe a head.

    Args:
        home: MODULE:FUNCTION in `models/heads`: (embeddings, labels, *, num_classes) to a module
            of a class in `models/description.py`, which checkpoints can hold.
    """

    home: str


HEAD_ROWS: dict[str, HeadRow] = {
    "prototype": HeadRow("_prototype:prototype"),
    "linear": HeadRow("_linear:linear"),
    "lipschitz_linear": HeadRow("_lipschitz_linear:lipschitz_linear"),
    "knn": HeadRow("_knn:knn"),
}
FITTED = (*HEAD_ROWS, "fine_tune")  # the last trains the encoder with a linear head
