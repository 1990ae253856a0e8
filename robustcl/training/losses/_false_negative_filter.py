"""Drop or attract negatives that are probably of the anchor's own class."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError
from robustcl.training.losses._sup_con import attraction_of
from robustcl.training.losses.similarities import partner_of, same_class, similarities, unit


@dataclass(frozen=True)
class FilterRule:
    """State which negatives are suspected of being of the anchor's class, and what follows.

    A negative is suspected when its mean similarity to the anchor's two views is among the
    `top_k` highest, and above `threshold`, and above the anchor's learned threshold: each where
    it is asked for, one at least.

    Args:
        action: 'drop' takes suspects out of the denominator, 'attract' makes them positives.
        top_k: Suspects per anchor at most; 0 for any number.
        threshold: Least similarity of a suspect; None for none.
        class_prior: Share of suspects that the learned threshold aims at (alpha in GloFND: the
            chance of the same class); 0 for no learned threshold.
        confidence: Least probability by the labeled prototypes with which two images count as of
            the same class or of different ones; 0 to leave labels out. With it, suspects of the
            same class follow the action, suspects of different classes stay negatives and those
            in doubt are dropped. Known labels decide outright.
        sharpness: Temperature of the softmax over prototypes.

    Raises:
        InputError: When a value is out of range or no condition is set.
    """

    action: Literal["drop", "attract"] = "drop"
    top_k: int = 0
    threshold: float | None = None
    class_prior: float = 0.0
    confidence: float = 0.0
    sharpness: float = 0.1

    def __post_init__(self) -> None:
        if self.action not in ("drop", "attract"):
            raise InputError(f"unknown action {self.action!r}; use 'drop' or 'attract'")
        if self.top_k < 0:
            raise InputError(f"top_k {self.top_k} is negative; use 0 for any number")
        if self.threshold is not None and not -1.0 <= self.threshold <= 1.0:
            raise InputError(f"threshold {self.threshold} is not a similarity in [-1, 1]")
        if not 0.0 <= self.class_prior < 1.0:
            raise InputError(f"class_prior {self.class_prior} is not in [0, 1); try 1 / classes")
        if not 0.0 <= self.confidence <= 1.0:
            raise InputError(f"confidence {self.confidence} is not a probability")
        if not self.sharpness > 0.0:
            raise InputError(f"sharpness {self.sharpness} is not positive; try 0.1")
        if not (self.top_k or self.threshold is not None or self.class_prior):
            raise InputError(
                "the filter has no condition; set top_k, threshold or class_prior, for instance "
                "filter:class_prior=.1"
            )


@dataclass(frozen=True, eq=False)
class Suspects:
    """Say what becomes of the negatives of each view.

    Args:
        dropped: (2B, 2B) negatives that are left out.
        attracted: (2B, 2B) negatives that become positives.
    """

    dropped: Tensor
    attracted: Tensor


def false_negative_filter(
    first: Tensor,
    second: Tensor,
    labels: Tensor,
    thresholds: Tensor | None = None,
    prototypes: Tensor | None = None,
    *,
    rule: FilterRule,
    temperature: float = 0.5,
) -> Tensor:
    """Compute NT-Xent with suspected false negatives dropped or attracted.

    Dropped ones leave the denominator. With attracted ones A(i) the loss of a view is
    -1/(1 + |A|) sum_{p in A + i+} log( exp(s_ip/tau) / sum_{k kept, k != i} exp(s_ik/tau) ).
    Without suspects it equals `nt_xent`; with all labels known, confidence and 'attract' it
    attracts what `sup_con` attracts.

    Args:
        first: (B, d) raw embeddings of one view of each image; B >= 2.
        second: (B, d) raw embeddings of the other view, in the same order.
        labels: (B,) integer labels, -1 where unknown; they count only with confidence.
        thresholds: (B,) learned thresholds, see `step_thresholds`; needed with class_prior.
        prototypes: (K, d) class means of labeled images; needed with confidence.
        rule: Who is suspected, and what follows.
        temperature: tau > 0.

    Returns:
        A scalar. The suspects are chosen without gradient.

    Reference:
        Huynh et al., Boosting Contrastive Self-Supervised Learning with False Negative
        Cancellation, WACV 2022 (the support set is the anchor's two views);
        Balmaseda et al., Discovering Global False Negatives On the Fly for Self-supervised
        Contrastive Learning, ICML 2025 (learned threshold).
    """
    found = suspects(first, second, labels, thresholds, prototypes, rule=rule)
    return filtered_of(similarities(first, second, temperature=temperature), found)


def filtered_of(logits: Tensor, found: Suspects) -> Tensor:
    """Compute the filtered loss from the logits of all pairs.

    Args:
        logits: (2B, 2B), as from `similarities`.
        found: From `suspects`.

    Returns:
        A scalar.
    """
    kept = logits.masked_fill(found.dropped, -torch.inf)
    rows = torch.arange(len(logits), device=logits.device)
    positive = found.attracted.clone()
    positive[rows, partner_of(logits)] = True
    return attraction_of(kept, positive)


@torch.no_grad()
def suspects(
    first: Tensor,
    second: Tensor,
    labels: Tensor,
    thresholds: Tensor | None = None,
    prototypes: Tensor | None = None,
    *,
    rule: FilterRule,
) -> Suspects:
    """Choose the negatives that are dropped and attracted.

    Args:
        first: (B, d) raw embeddings of one view of each image; B >= 2.
        second: (B, d) raw embeddings of the other view.
        labels: (B,) integer labels, -1 where unknown.
        thresholds: (B,) learned thresholds, NaN where there is none yet.
        prototypes: (K, d) class means.
        rule: The rule.

    Returns:
        Two masks, False at a view itself and at its other view.

    Raises:
        InputError: When the rule needs thresholds or prototypes that are not given.
    """
    scores = support_scores(first, second)
    found = _by_similarity(scores, thresholds, rule)
    if not rule.confidence:
        nothing = torch.zeros_like(found)
        return Suspects(found, nothing) if rule.action == "drop" else Suspects(nothing, found)
    if prototypes is None:
        raise InputError("confidence needs prototypes; give class means of labeled images")
    with torch.autocast(first.device.type, enabled=False):
        views = unit(torch.cat([first, second]))
        shares = torch.softmax(views @ unit(prototypes).to(views).T / rule.sharpness, dim=1)
    highest, guesses = shares.max(dim=1)
    known = (labels >= 0).repeat(2)
    guesses = torch.where(known, labels.repeat(2), guesses)
    sure = known | (highest >= rule.confidence)
    both = sure[:, None] & sure[None, :]
    same = guesses[:, None] == guesses[None, :]
    # Two images with the same known label are suspects however unlike they look.
    found = found | (same_class(labels, len(first)) & torch.isfinite(scores))
    agreed, doubtful = found & both & same, found & ~both
    if rule.action == "drop":
        return Suspects(agreed | doubtful, torch.zeros_like(found))
    return Suspects(doubtful, agreed)


@torch.no_grad()
def support_scores(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean similarity of every view to the two views of the anchor's image.

    Args:
        first: (B, d) raw embeddings of one view of each image.
        second: (B, d) raw embeddings of the other view.

    Returns:
        (2B, 2B), minus infinity at a view itself and at its other view.
    """
    table = similarities(first, second, temperature=1.0)
    rows = torch.arange(len(table), device=table.device)
    table[rows, partner_of(table)] = -torch.inf
    return (table + table.roll(len(first), dims=0)) / 2.0


@torch.no_grad()
def step_thresholds(
    thresholds: Tensor, scores: Tensor, *, class_prior: float, rate: float = 1.0
) -> Tensor:
    """Move each anchor's threshold toward the quantile that the share `class_prior` exceeds.

    One step on the quantile's convex objective: up when more of the scores exceed the threshold,
    down when fewer do. A threshold that is NaN starts at the quantile of the present scores.

    Args:
        thresholds: (B,) thresholds, NaN where there is none yet.
        scores: (B, 2B) scores of each anchor, from `support_scores`, minus infinity at its views.
        class_prior: Share alpha of scores that should exceed the threshold, in (0, 1).
        rate: Length of a step, in standard deviations of the anchor's scores.

    Returns:
        (B,) new thresholds in [-1, 1].

    Reference:
        Balmaseda et al., Discovering Global False Negatives On the Fly, ICML 2025 (the
        quantile objective; the step's unit is ours).
    """
    finite = scores[torch.isfinite(scores)].view(len(scores), -1)
    above = (finite > thresholds[:, None]).to(finite.dtype).mean(dim=1)
    moved = thresholds + rate * finite.std(dim=1) * (above - class_prior)
    start = torch.quantile(finite, 1.0 - class_prior, dim=1)
    return torch.where(torch.isnan(thresholds), start, moved).clamp(-1.0, 1.0)


def class_sums(embeddings: Tensor, labels: Tensor, *, num_classes: int) -> Tensor:
    """Return the sum of unit embeddings per class, 0 for a class without any.

    Args:
        embeddings: (B, d) raw embeddings.
        labels: (B,) integer labels, -1 where unknown.
        num_classes: K.

    Returns:
        (K, d) sums, whose directions are the class means.
    """
    known = labels >= 0
    onehot = functional.one_hot(labels[known], num_classes).T
    units = unit(embeddings[known].detach())
    return onehot.to(units) @ units


def _by_similarity(scores: Tensor, thresholds: Tensor | None, rule: FilterRule) -> Tensor:
    found = torch.isfinite(scores)
    if rule.top_k:
        wanted = min(rule.top_k, scores.shape[1] - 2)
        best = torch.zeros_like(found)
        best.scatter_(1, scores.topk(wanted, dim=1).indices, True)
        found &= best
    if rule.threshold is not None:
        found &= scores > rule.threshold
    if rule.class_prior:
        if thresholds is None:
            raise InputError("class_prior needs learned thresholds; start with NaN per image")
        limit = thresholds.nan_to_num(nan=math.inf).repeat(2)
        found &= scores > limit[:, None]
    return found
