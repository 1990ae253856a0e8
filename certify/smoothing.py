"""Certify the Gaussian-smoothed classifier by sampling."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from certify.bounds.confidence import betting_lower_bound, clopper_pearson_lower_bound
from certify.claim import ABSTAINED, NO_RIVAL, Claim
from certify.pairs import affine_head
from robustcl.classifier import Classifier
from robustcl.errors import InputError, UnsupportedError
from robustcl.frozen import frozen
from robustcl.threat import Norm

Form = Literal["mean", "vote"]
DOWN = 1.0 - 1e-12


def smoothing(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: Norm = "l2",
    seeds: Sequence[int] | None = None,
    sigma: float = 0.25,
    n: int = 1000,
    n_select: int = 100,
    alpha: float = 0.001,
    form: Form = "mean",
    batch_size: int = 256,
) -> Claim:
    """Certify the prediction of the smoothed classifier, not of the model itself.

    Guarantee: probabilistic, wrong with probability at most alpha per image, up to floating-point
    sampling. Noise N(0, sigma^2) is added to the image before the input normalization, without
    clipping. The class is chosen on n_select samples; n fresh ones bound the margins. Where no
    positive radius follows, the claim is to abstain.

    * form 'mean': the subject scores by g(x) = E f(x + e), not renormalized; per rival j,
      r_j = sigma [Phi^-1((1 + mu_j)/2) - Phi^-1((1 + t_j)/2)] with a lower confidence bound mu_j
      of a_j.g / |a_j| and t_j = -c_j / |a_j|. The nearest rival is one fixed class, so level
      alpha per pair is enough.
    * form 'vote': the subject takes the most frequent class; r = sigma Phi^-1(p) with the
      Clopper-Pearson bound p > 1/2.

    Args:
        classifier: Any classifier for 'vote'; one with embeddings on the sphere and a prototype
            or linear head for 'mean'.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2'; for 'linf' the L2 radius is divided by sqrt(D).
        seeds: One seed per image; 0, 1, ... by default.
        sigma: Standard deviation of the noise, in pixel units.
        n: Samples that bound the margins.
        n_select: Samples that choose the class.
        alpha: Probability of a wrong claim, per image.
        form: 'mean' or 'vote'.
        batch_size: Noisy images per model call.

    Returns:
        A probabilistic claim about the smoothed model.

    Raises:
        InputError: When the seeds are not one per image; what `check_smoothing` refuses is refused.

    Reference:
        Cohen et al., Certified Adversarial Robustness via Randomized Smoothing, ICML 2019,
        theorem 1 and algorithm CERTIFY; Salman et al., NeurIPS 2019, lemma 2 (the mean form).
    """
    check_smoothing(classifier, sigma=sigma, n=n, n_select=n_select, alpha=alpha, form=form)
    if seeds is not None and len(seeds) != len(images):
        raise InputError(f"{len(seeds)} seeds for {len(images)} images; give one each")
    head = affine_head(classifier, method="smoothing:form=mean") if form == "mean" else None
    function = classifier.embeddings if form == "mean" else classifier
    predicted, radii, rivals = [], [], []
    with torch.no_grad(), frozen(classifier):
        for row, image in enumerate(images):
            generator = torch.Generator().manual_seed(row if seeds is None else seeds[row])
            chosen = _sample(function, image, sigma, n_select, batch_size, generator)
            fresh = _sample(function, image, sigma, n, batch_size, generator)
            if head is not None:
                found = _mean(chosen, fresh, head, sigma, alpha)
            else:
                found = _vote(chosen, fresh, sigma, alpha)
            for column, value in zip((predicted, radii, rivals), found, strict=True):
                column.append(value)
    scale = 1.0 if norm == "l2" else DOWN / float(np.sqrt(images[0].numel()))
    return Claim(
        "smoothing",
        norm,
        "probabilistic",
        f"smoothed model (sigma={sigma:g}, {form})",
        torch.tensor(predicted),
        torch.tensor(radii, dtype=torch.float64) * scale,
        torch.tensor(rivals),
    )


def check_smoothing(
    classifier: Classifier,
    *,
    sigma: float = 0.25,
    n: int = 1000,
    n_select: int = 100,
    alpha: float = 0.001,
    form: str = "mean",
) -> None:
    """Refuse options that are out of range, and classifiers that the mean form cannot treat.

    Args:
        classifier: The classifier.
        sigma: See `smoothing`, as for the others.
        n: Samples that bound the margins.
        n_select: Samples that choose the class.
        alpha: Probability of a wrong claim.
        form: 'mean' or 'vote'.

    Raises:
        InputError: When an option is out of range.
        UnsupportedError: When the mean form does not apply.
    """
    if form not in ("mean", "vote"):
        raise InputError(f"unknown form {form!r} of smoothing; use mean or vote")
    if not 0 < sigma < np.inf:
        raise InputError(f"sigma {sigma} is not positive and finite; try 0.25")
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha {alpha} is not between 0 and 0.5; try 0.001")
    if n < 2 or n_select < 1:
        raise InputError(f"n {n} or n_select {n_select} is too small; try n=1000,n_select=100")
    if form == "vote":
        return
    affine_head(classifier, method="smoothing:form=mean")
    if not classifier.normalizes:
        raise UnsupportedError(
            "smoothing:form=mean needs embeddings on the unit sphere, since its theorem needs "
            "bounded scores; use smoothing:form=vote"
        )


def _sample(
    function: object,
    image: Tensor,
    sigma: float,
    count: int,
    batch_size: int,
    generator: torch.Generator,
) -> Tensor:
    # The function's outputs on noisy copies; every call has the same batch shape.
    outputs = []
    for start in range(0, count, batch_size):
        noise = torch.randn(batch_size, *image.shape, generator=generator).to(image)
        values = function(image + sigma * noise)  # pyright: ignore[reportCallIssue]
        outputs.append(values[: count - start].double().cpu())
    return torch.cat(outputs)


def _mean(
    chosen: Tensor, fresh: Tensor, head: tuple[Tensor, Tensor], sigma: float, alpha: float
) -> tuple[int, float, int]:
    weight, bias = (part.cpu() for part in head)
    scores = torch.nan_to_num(chosen).mean(dim=0) @ weight.T + bias
    top = int(scores.argmax())
    directions, offsets = weight[top] - weight, bias[top] - bias
    lengths = torch.linalg.vector_norm(directions, dim=1)
    units = directions / lengths.clamp_min(1e-300)[:, None]
    # A sample that is not finite counts as the worst one.
    values = torch.nan_to_num(fresh @ units.T, nan=-1.0).clamp(-1.0, 1.0)
    lower = 2.0 * betting_lower_bound(((values + 1.0) / 2.0).numpy(), alpha=alpha) - 1.0
    threshold = (-offsets / lengths.clamp_min(1e-300)).numpy()
    radii = sigma * (_quantile(lower - 1e-12) - _quantile(np.minimum(threshold + 1e-12, 1.0)))
    radii = np.where(threshold >= 1.0, 0.0, np.where(threshold <= -1.0, np.inf, radii))
    tied = lengths.numpy() == 0
    radii = np.where(tied, np.where(offsets.numpy() > 0, np.inf, 0.0), radii)
    radii[top] = np.inf
    rival = int(np.argmin(radii))
    radius = float(radii[rival])
    if not radius > 0:
        return ABSTAINED, 0.0, NO_RIVAL
    return top, radius * DOWN, rival


def _quantile(mean: np.ndarray) -> np.ndarray:
    # Phi^-1((1 + mean) / 2), written so that no digits are lost near 1.
    return -np.asarray(ndtri((1.0 - np.clip(mean, -1.0, 1.0)) / 2.0))


def _vote(chosen: Tensor, fresh: Tensor, sigma: float, alpha: float) -> tuple[int, float, int]:
    top = int(_counts(chosen).argmax())
    votes = int(_counts(fresh)[top])
    share = clopper_pearson_lower_bound(votes, len(fresh), alpha=alpha)
    if not share > 0.5:
        return ABSTAINED, 0.0, NO_RIVAL
    others = _counts(fresh)
    others[top] = -1
    return top, float(sigma * -ndtri(1.0 - share)) * DOWN, int(others.argmax())


def _counts(scores: Tensor) -> Tensor:
    # Votes per class; a sample whose scores are not finite votes for none.
    finite = torch.isfinite(scores).all(dim=1)
    return torch.bincount(scores[finite].argmax(dim=1), minlength=scores.shape[1])
