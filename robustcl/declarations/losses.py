"""Declare the losses: one row per loss, whose file is `training/losses/_NAME.py`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LossRow:
    """Describe a loss, the function NAME of its file.

    Args:
        title: What figures call it.
        sees: 'embeddings': (first, second, labels), raw; 'pairs': the file has NAME_of too, of
            logits and, where it takes them, labels and options; 'classes': (first, second, labels)
            and class vectors or a class layer.
        labels: 'none', 'some' (unlabeled images take part) or 'only' (of labeled images only; they
            may have a batch of their own).
        alias: A shorter name.
        keeps_state: Whether it looks at more than a batch, which is there only where it is trained.
    """

    title: str
    sees: Literal["embeddings", "pairs", "classes"] = "embeddings"
    labels: Literal["none", "some", "only"] = "some"
    alias: str = ""
    keeps_state: bool = False


LOSS_ROWS: dict[str, LossRow] = {
    "nt_xent": LossRow("SimCLR (NT-Xent)", "pairs", "none", alias="simclr"),
    "sup_con": LossRow("SupCon", "pairs", alias="supcon"),
    "suncet": LossRow("SuNCEt", "pairs", "only"),
    "debiased": LossRow("debiased", "pairs", "none"),
    "hard_negative": LossRow("hard negatives", "pairs", "none"),
    "false_negative_filter": LossRow(
        "false-negative filter", "pairs", "none", alias="filter", keeps_state=True
    ),
    "semantic": LossRow("semantic targets", "classes", "only", keeps_state=True),
    "cross_entropy": LossRow("cross-entropy", "classes", "only", keeps_state=True),
    "margin_suncet": LossRow("SuNCEt with a margin", labels="only"),
    "batch_prototypes": LossRow("batch prototypes"),
}
