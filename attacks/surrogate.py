"""Choose the loss that is raised in place of the margin, which alone decides."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.specification import choose

# The fewest classes with which a loss is defined.
CLASSES = {"margin": 0, "margin-targeted": 2, "ce": 2, "dlr": 3, "dlr-targeted": 4}


def check_loss(objective: Objective, loss: str) -> None:
    """Refuse a loss that is unknown, or that the objective cannot give.

    Args:
        objective: What is raised.
        loss: 'margin' (any objective), or 'margin-targeted', 'ce', 'dlr', 'dlr-targeted' (a
            classifier and targets).

    Raises:
        InputError: When the objective has no classifier or targets, or too few classes.
    """
    least = CLASSES[choose(loss, CLASSES, what="loss")]
    if loss == "margin":
        return
    if objective.classifier is None or objective.targets is None:
        raise InputError(
            f"the loss {loss!r} needs class scores and targets; use loss='margin', or an objective "
            "with a classifier such as misclassify"
        )
    classes = objective.classifier.num_classes
    if classes < least:
        raise InputError(
            f"the loss {loss!r} needs {least} classes and there are {classes}; use 'margin'"
        )


def surrogate(
    objective: Objective, loss: str, others: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """Return the loss as a function of images, higher where the adversary is nearer to its aim.

    With s the scores, t the class to be left, r the other class and s_(i) the i-th highest score:
    'margin-targeted' is s_r - s_t; 'ce' is the cross-entropy of t; 'dlr' is
    (max_{j != t} s_j - s_t) / (s_(1) - s_(3)); 'dlr-targeted' is
    (s_r - s_t) / (s_(1) - (s_(3) + s_(4)) / 2). The last two do not change when all scores are
    multiplied, so they have a gradient where cross-entropy's vanishes.

    Args:
        objective: The objective, for B images; `check_loss` accepts it with this loss.
        loss: The name.
        others: (B,) classes, for targeted losses.

    Returns:
        (B, C, H, W) to (B,).

    Reference:
        Croce and Hein, Reliable Evaluation of Adversarial Robustness, ICML 2020, (6) and (7).
    """
    if loss == "margin":
        return objective.margin
    targets = objective.targets
    assert targets is not None and (others is not None or not loss.endswith("-targeted"))

    def raised(points: Tensor) -> Tensor:
        scores = objective.scores(points)
        own = targets.to(scores.device)
        if loss == "ce":
            return torch.nn.functional.cross_entropy(scores, own, reduction="none")
        if others is None:
            itself = torch.nn.functional.one_hot(own, scores.shape[1]).bool()
            aimed = scores.masked_fill(itself, -torch.inf).amax(dim=1)
        else:
            aimed = scores.gather(1, others[:, None])[:, 0]
        lead = aimed - scores.gather(1, own[:, None])[:, 0]
        if loss == "margin-targeted":
            return lead
        top = scores.topk(4 if loss == "dlr-targeted" else 3, dim=1).values
        low = (top[:, 2] + top[:, 3]) / 2.0 if loss == "dlr-targeted" else top[:, 2]
        return lead / (top[:, 0] - low).clamp_min(torch.finfo(scores.dtype).tiny)

    return raised
