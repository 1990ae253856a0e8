"""State what an adversary wants: a number per image that is positive exactly where it has won."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcl.core.batching import fixed_size
from robustcl.core.checks import plain_tensor
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode


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
        evaluations: Passes through the network per call of the margin; more than one where it is
            an average over draws or views. Counts of gradients are multiplied by it.
        about: The same aim about another classifier, such as a copy in float64; without it what is
            found cannot be confirmed there, and attacks state no radius.
    """

    margin: Callable[[Tensor], Tensor]
    classifier: Classifier | None = None
    targets: Tensor | None = None
    aim: Callable[[Tensor], Callable[[Tensor], Tensor]] | None = None
    evaluations: int = 1
    about: Callable[[Classifier], "Objective"] | None = None

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
        aim, about = self.aim, self.about
        with torch.inference_mode(False):
            rows = plain_tensor(rows)
            return replace(
                self,
                margin=aim(rows),
                targets=None if self.targets is None else self.targets[rows],
                aim=lambda inner: aim(rows[inner]),
                about=None if about is None else lambda other: about(other).select(rows),
            )


def misclassify(classifier: Classifier, targets: Tensor) -> Objective:
    """Aim at any class but the given one: margin max_{j != t} s_j - s_t.

    A tie is not a win.

    Args:
        classifier: The model under attack.
        targets: (B,) the class to be left; for an audit the predicted one, not the label.

    Returns:
        The objective, for batches of the same B images in the same order.

    Raises:
        InputError: When a class is negative, as where the model abstains.
    """
    targets = plain_tensor(targets)
    if bool((targets < 0).any()):
        row = int(torch.nonzero(targets < 0)[0, 0])
        raise InputError(
            f"image {row} has the class {int(targets[row])}, none that could be left; leave out "
            "images on which the model abstains"
        )

    def aim(rows: Tensor) -> Callable[[Tensor], Tensor]:
        chosen = targets[rows]
        return lambda images: score_margin(classifier(images), chosen.to(images.device))

    return _objective(
        classifier, aim, targets, targets=targets, about=lambda other: misclassify(other, targets)
    )


def _objective(
    classifier: Classifier,
    aim: Callable[[Tensor], Callable[[Tensor], Tensor]],
    images: Tensor,
    *,
    about: Callable[[Classifier], Objective],
    targets: Tensor | None = None,
) -> Objective:
    with torch.inference_mode(False):
        everyone = torch.arange(len(images), device=images.device)
        return Objective(aim(everyone), classifier, targets, aim, classifier.evaluations, about)


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


def displace(
    classifier: Classifier,
    images: Tensor,
    *,
    threshold: float | Tensor,
    batch_size: int = 128,
) -> Objective:
    """Aim at moving the embedding: margin |f(x') - f(x)| - threshold. No labels are needed.

    A drift of exactly the threshold is no win.

    Args:
        classifier: The model under attack; its head is not used.
        images: (B, C, H, W) the clean images x, whose embeddings are computed here.
        threshold: Euclidean distance of embeddings, >= 0, one number or (B,).
        batch_size: Images per model call.

    Returns:
        The objective, for batches of the same B images in the same order.

    Raises:
        InputError: When a threshold is negative or not a number, or their number is neither 1
            nor B.
    """
    exact = torch.float64  # a number such as 0.1 is not rounded before the model's own type
    limits = threshold if isinstance(threshold, Tensor) else torch.tensor(threshold, dtype=exact)
    if limits.shape not in ((), (len(images),)) or not bool((limits >= 0).all()):
        raise InputError(f"threshold {threshold!r} is not one number >= 0, or one per image")
    images = plain_tensor(images)
    with torch.inference_mode(False), torch.no_grad(), eval_mode(classifier):
        references = fixed_size(classifier.embeddings, images, batch_size=batch_size)
        limits = plain_tensor(limits).to(references).expand(len(images))

    def aim(rows: Tensor) -> Callable[[Tensor], Tensor]:
        start, limit = references[rows], limits[rows]
        return lambda points: _distance(classifier.embeddings(points), start) - limit

    def about(other: Classifier) -> Objective:
        seen = images.to(other.encoder.mean.dtype)
        return displace(other, seen, threshold=threshold, batch_size=batch_size)

    return _objective(classifier, aim, images, about=about)


def _distance(points: Tensor, start: Tensor) -> Tensor:
    # |p - s| = u.(p - s) with u its direction, held fixed in the gradient. At p = s any unit vector
    # is a subgradient; torch's own is 0, from which no attack that begins there could move. A
    # coordinate in which s is small is nearly tangential to the sphere.
    difference = points - start
    length = torch.linalg.vector_norm(difference.detach(), dim=1, keepdim=True)
    side = torch.nn.functional.one_hot(start.abs().argmin(dim=1), start.shape[1]).to(points)
    unit = torch.where(length > 0, difference.detach() / length, side)
    return (unit * difference).sum(dim=1)


def outrank(classifier: Classifier, gallery: Tensor, *, items: Tensor, k: int = 1) -> Objective:
    """Aim at driving an item out of the k nearest of a gallery: k other items become nearer.

    Items are ranked by Euclidean distance |f(x) - g_i|, which for items of unit norm is the order
    of cosine similarity. The margin is the k-th largest, over the other items j, of
    (|f - g_i|^2 - |f - g_j|^2) / 2 = (g_j - g_i).f - (|g_j|^2 - |g_i|^2) / 2; a tie is no win.

    Args:
        classifier: The model under attack; its head is not used.
        gallery: (M, d) embeddings, M > k.
        items: (B,) the item to be driven out, per image.
        k: Length of the list.

    Returns:
        The objective, for batches of the same B images in the same order.

    Raises:
        InputError: When the gallery is no matrix, k is not in 1 to M - 1, or an item is none of it.
    """
    if gallery.ndim != 2 or not 1 <= k < len(gallery):
        raise InputError(
            f"k {k} with a gallery of shape {tuple(gallery.shape)}; use (M, d) and 1 <= k < M"
        )
    if items.ndim != 1 or not bool(((items >= 0) & (items < len(gallery))).all()):
        raise InputError(
            f"items {items.tolist()} are not (B,) numbers from 0 to {len(gallery) - 1}"
        )
    known, items = plain_tensor(gallery.detach()), plain_tensor(items)

    def aim(rows: Tensor) -> Callable[[Tensor], Tensor]:
        chosen = items[rows.to(items.device)]
        return lambda points: _lead(classifier.embeddings(points), known, chosen, k)

    return _objective(
        classifier, aim, items, about=lambda other: outrank(other, known, items=items, k=k)
    )


def _lead(points: Tensor, gallery: Tensor, items: Tensor, k: int) -> Tensor:
    known = gallery.to(points)
    scores = points @ known.T - (known * known).sum(dim=1) / 2.0
    chosen = items.to(points.device)
    leads = scores - scores.gather(1, chosen[:, None])
    own = torch.nn.functional.one_hot(chosen, len(known)).bool()
    return leads.masked_fill(own, -torch.inf).topk(k, dim=1).values[:, -1]
