"""State what an adversary wants: a number per image that is positive exactly where it has won."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.classifier import Classifier
from robustcl.errors import InputError


@dataclass(frozen=True, eq=False)
class Objective:
    """State the adversary's aim; attacks raise it, certificates prove that it stays <= 0.

    Args:
        margin: (B, C, H, W) images to (B,) numbers, positive exactly where the adversary has won.
            `aim` below says how it is bound to single images.
        classifier: The model, for attacks that need scores.
        targets: (B,) classes to be left, for attacks that need them.
        aim: Where the margin depends on the image (by a class or a reference embedding), a
            function from rows to the margin for these rows; None when it does not.
    """

    margin: Callable[[Tensor], Tensor]
    classifier: Classifier | None = None
    targets: Tensor | None = None
    aim: Callable[[Tensor], Callable[[Tensor], Tensor]] | None = None

    def scores(self, images: Tensor) -> Tensor:
        """Return class scores.

        Args:
            images: (B, C, H, W).

        Returns:
            (B, K) scores.

        Raises:
            InputError: When the objective has no classifier.
        """
        if self.classifier is None:
            raise InputError("this attack needs class scores; use an objective with a classifier")
        return self.classifier(images)

    def select(self, rows: Tensor) -> "Objective":
        """Return the objective for a subset of the images.

        Args:
            rows: (R,) positions; one may come more than once.

        Returns:
            An objective for R images, with `select` relative to them.
        """
        if self.aim is None:
            return self
        aim = self.aim
        targets = None if self.targets is None else self.targets[rows]
        return Objective(aim(rows), self.classifier, targets, lambda inner: aim(rows[inner]))


def misclassify(classifier: Classifier, targets: Tensor) -> Objective:
    """Aim at any class but the given one: margin max_{j != t} s_j - s_t.

    A tie is not a win.

    Args:
        classifier: The model under attack.
        targets: (B,) the class to be left; for an audit the predicted one, not the label.

    Returns:
        The objective, for batches of the same B images in the same order.
    """

    def aim(rows: Tensor) -> Callable[[Tensor], Tensor]:
        chosen = targets[rows]
        return lambda images: score_margin(classifier(images), chosen.to(images.device))

    everyone = torch.arange(len(targets), device=targets.device)
    return Objective(aim(everyone), classifier, targets, aim)


def score_margin(scores: Tensor, targets: Tensor) -> Tensor:
    """Return by how much the best other class leads: max_{j != t} s_j - s_t.

    Args:
        scores: (B, K) class scores, K >= 2.
        targets: (B,) classes.

    Returns:
        (B,) margins; positive where another class scores strictly higher.

    Raises:
        InputError: When there is one class only, or the shapes do not match.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise InputError(f"scores of shape {tuple(scores.shape)} leave no other class; need K >= 2")
    if targets.shape != (len(scores),):
        raise InputError(f"{len(scores)} images have targets of shape {tuple(targets.shape)}")
    own = scores.gather(1, targets[:, None])[:, 0]
    itself = torch.nn.functional.one_hot(targets, scores.shape[1]).bool()
    return scores.masked_fill(itself, -torch.inf).amax(dim=1) - own
