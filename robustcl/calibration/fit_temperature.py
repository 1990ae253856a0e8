"""Fit the temperature that turns scores into probabilities."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.errors import InputError

LOW, HIGH = 1e-3, 1e3
ROUNDS = 80


def fit_temperature(scores: Tensor, labels: Tensor) -> float:
    """Minimize the negative log likelihood of softmax(scores / T) on held-out images.

    A similarity to a prototype is not a probability: its softmax needs a T well below 1. The
    likelihood is convex in 1 / T, so a search by golden section finds the one optimum.

    Where all N images are right there is none: the smaller T, the likelier the labels, and the
    first wrong image afterwards would cost without bound. There the label's target is
    (N + 1) / (N + 2) instead of 1, and the other classes share the rest: the rule
    of succession, as Platt has it.

    Args:
        scores: (N, K) of images that the head was not fitted on.
        labels: (N,) their classes.

    Returns:
        T, in [0.001, 1000].

    Raises:
        InputError: When there is no image, or the shapes do not match.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
        Platt, Probabilistic Outputs for Support Vector Machines, 1999, section 2.2.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise InputError(
            f"scores of shape {tuple(scores.shape)} with labels of shape {tuple(labels.shape)}; "
            "give (N, K) and (N,), N >= 1"
        )
    values = scores.detach().double()
    targets = _targets(values, labels)

    def cost(log_inverse: float) -> float:
        return float(functional.cross_entropy(values * math.exp(log_inverse), targets))

    # Convex in 1 / T, hence with one minimum in its logarithm as well.
    low, high = math.log(1.0 / HIGH), math.log(1.0 / LOW)
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(ROUNDS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if cost(left) <= cost(right):
            high = right
        else:
            low = left
    return math.exp(-(low + high) / 2.0)


def _targets(scores: Tensor, labels: Tensor) -> Tensor:
    count, classes = scores.shape
    own = scores.gather(1, labels[:, None])[:, 0]
    if classes == 1 or bool((own < scores.max(dim=1).values).any()):
        return labels
    wrong = 1.0 / (count + 2)
    share = torch.full_like(scores, wrong / (classes - 1))
    return share.scatter(1, labels[:, None], 1.0 - wrong)
