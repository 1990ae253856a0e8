"""Write a smoothed classifier's pairwise comparisons as means of variables in [0, 1]."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from robustcl.certify.pairs import affine_head
from robustcl.core.classifier import Classifier
from robustcl.core.special_functions import ndtri

Form = Literal["mean", "vote", "clip"]
Bound = Literal["betting", "bernstein"]
SLACK = 1e-12  # on every mean, for the rounding of float64 sums


@dataclass(frozen=True, eq=False)
class Smoothed:
    """State which smoothed classifier is meant.

    Args:
        form: 'mean', 'vote' or 'clip'.
        sigma: Standard deviation of the noise, in pixel units.
        classes: K.
        clip: t of the form 'clip'; 0 where it is chosen per image.
        weight: (K, d) of the head; empty for 'vote'.
        bias: (K,) of the head.
        sphere: Whether embeddings are of unit norm.
    """

    form: Form
    sigma: float
    classes: int
    clip: float
    weight: np.ndarray
    bias: np.ndarray
    sphere: bool

    @property
    def subject(self) -> str:
        """The classifier, in words."""
        clip = f" t={self.clip:g}" if self.clip else " t per image"
        return f"smoothed model (sigma={self.sigma:g}, {self.form}{clip * (self.form == 'clip')})"


@dataclass(frozen=True, eq=False)
class Pairing:
    """Hold how the chosen class is compared with every other one.

    Class j cannot overtake inside sigma [Phi^-1(E x_j) - offset_j], where
    x_j = (1 + clip((z_y - z_j + shift_j) / scale_j, -1, 1)) / 2 for outputs z.

    Args:
        top: The chosen class y.
        shift: (J,).
        scale: (J,), positive.
        offset: (J,) rounded up; infinite where the two classes are tied.
        matters: (J,) False for y itself and for classes that can never overtake.
    """

    top: int
    shift: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    matters: np.ndarray


def smoothed(classifier: Classifier, *, form: Form, sigma: float, clip: float) -> Smoothed:
    """Collect what the comparisons need of a classifier.

    Args:
        classifier: The base classifier.
        form: 'mean', 'vote' or 'clip'.
        sigma: Standard deviation of the noise.
        clip: t of the form 'clip', or 0.

    Returns:
        The smoothed classifier's terms.
    """
    weight = bias = np.empty(0)
    if form != "vote":
        head = affine_head(classifier, method=f"smoothing:form={form}")
        weight, bias = (part.cpu().numpy() for part in head)
    classes, sphere = classifier.num_classes, classifier.normalizes
    return Smoothed(form, sigma, classes, clip, weight, bias, sphere)


def base_function(classifier: Classifier, form: Form) -> Callable[[Tensor], Tensor]:
    """Return the function of a noisy image whose outputs are compared.

    Args:
        classifier: The base classifier.
        form: 'mean', 'vote' or 'clip'.

    Returns:
        (B, C, H, W) to z: (B, K) the head's W f in float64; for 'vote' (B, 1) the class, -1 where a
        score is NaN or the highest is infinite.
    """
    if form == "vote":
        return lambda points: _winners(classifier(points))
    weight = affine_head(classifier, method=f"smoothing:form={form}")[0].T.contiguous()
    return lambda points: classifier.embeddings(points).double() @ weight


def _winners(scores: Tensor) -> Tensor:
    highest, winners = scores.max(dim=1)  # NaN where any score is
    return torch.where(highest.isfinite(), winners, -1)[:, None]


def margin_pairing(terms: Smoothed, top: int) -> Pairing:
    """Compare a class with every other one, for the forms 'mean' and 'clip'.

    Args:
        terms: The smoothed classifier.
        top: The class y.

    Returns:
        The comparisons with a_j = w_y - w_j and c_j = b_y - b_j. 'mean': the mean of a_j.f / |a_j|
        and the threshold t_j = -c_j / |a_j|. 'clip': the mean of clip(m_j / (t (|a_j| + |c_j|))).
    """
    lengths = np.linalg.norm(terms.weight[top] - terms.weight, axis=1)
    shift = terms.bias[top] - terms.bias
    # On the sphere a.f + c > 0 always where c > |a|.
    matters = shift <= lengths * (1.0 + SLACK) if terms.sphere else (lengths > 0) | (shift <= 0)
    matters[top] = False
    tied = (lengths == 0) & (shift <= 0)
    if terms.form == "clip":
        scale = terms.clip * (lengths + np.abs(shift))
        offset = np.where(tied, np.inf, 0.0)
        return Pairing(top, shift, np.where(scale > 0, scale, 1.0), offset, matters)
    scale = np.where(lengths > 0, lengths, 1.0)
    threshold = np.where(tied, 1.0, -shift / scale)
    offset = -ndtri((1.0 - np.clip(threshold + SLACK, -1.0, 1.0)) / 2.0)
    return Pairing(top, 0.0 * shift, scale, offset, matters)


def unit_values(outputs: np.ndarray, pair: Pairing, terms: Smoothed) -> np.ndarray:
    """Return the variables in [0, 1] whose means are to be bounded from below.

    Args:
        outputs: (..., K or 1) outputs z.
        pair: The comparisons.
        terms: The smoothed classifier.

    Returns:
        (..., J); a sample that is not finite counts as the worst, 0. J = 1 for 'vote'.
    """
    if terms.form == "vote":
        return (outputs == pair.top).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        halves = (outputs[..., pair.top, None] - outputs + pair.shift) / (2.0 * pair.scale)
    values = np.clip(0.5 + halves, 0.0, 1.0)
    values[np.isnan(values)] = 0.0
    return values


def votes(outputs: np.ndarray, terms: Smoothed) -> np.ndarray:
    """Count the votes of the form 'vote'.

    Args:
        outputs: (n, 1) classes; -1 votes for none.
        terms: The smoothed classifier.

    Returns:
        (K,) counts.
    """
    return np.bincount(outputs[outputs >= 0].astype(np.int64), minlength=terms.classes)


def runner_up(outputs: np.ndarray, terms: Smoothed, top: int) -> int:
    """Return the class that gets most votes beside the top one.

    Args:
        outputs: (n, 1) classes.
        terms: The smoothed classifier.
        top: The chosen class.

    Returns:
        The class.
    """
    counts = votes(outputs, terms)
    counts[top] = -1
    return int(counts.argmax())
