"""Certify how far the embedding can move: no labels, no classes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.certify.agreement import ROUNDING, check_agreement, own_model
from robustcl.certify.bounds.networks import NetworkLipschitzBound, network_lipschitz_bound
from robustcl.certify.image_by_image import workers
from robustcl.certify.norms import check_certified_norm
from robustcl.certify.one_thread import each, one_thread
from robustcl.certify.preparation import prepared_images, refuse_views
from robustcl.certify.rounding import row_lengths
from robustcl.certify.verification_problem import enclosed
from robustcl.core.choices import CertifiedNorm, Guarantee
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.core.hashes import network_hash
from robustcl.core.special_functions import ndtri

DOWN, UP = 1.0 - 1e-12, 1.0 + 1e-12
DIAMETER = 2.0


@dataclass(frozen=True, eq=False)
class Drift:
    """Claim that no perturbation of norm at most `budget` moves the embedding by more than `drift`.

    Args:
        method: The certificate's name.
        norm: CertifiedNorm of the perturbation.
        guarantee: 'deterministic' or 'probabilistic'.
        subject: Whose embedding is meant: the model's, or a smoothed one.
        budget: (B,) float64, in pixel units, rounded down where it was asked for.
        drift: (B,) float64 Euclidean distance of embeddings, rounded up where it was asked for.
            On the unit sphere 2 is vacuous; infinite means that nothing is claimed.
    """

    method: str
    norm: CertifiedNorm
    guarantee: Guarantee
    subject: str
    budget: Tensor
    drift: Tensor


def displacement(
    classifier: Classifier,
    images: Tensor,
    *,
    eps: float | None = None,
    threshold: float | None = None,
    norm: CertifiedNorm = "l2",
    prepared: NetworkLipschitzBound | None = None,
) -> Drift:
    """Bound the drift of the embedding within a budget, or the budget that keeps a drift.

    Claimed of the real-arithmetic network with the stored weights in eval mode, for all
    perturbations v in pixel units, whether or not they leave [0, 1]. Guarantee: deterministic.

    h(x + v) lies within L_h |v| of h(x), so for L_h |v| < |h(x)| the angle between the two is at
    most arcsin(L_h |v| / |h(x)|), and a chord of the sphere is 2 sin(angle / 2). Hence
    * for a budget eps, the drift is at most 2 sin(arcsin(L_h eps / |h|) / 2), and the vacuous 2
      where L_h eps reaches |h|;
    * for a threshold t < sqrt 2, the budget is |h| sin(2 arcsin(t / 2)) / L_h; for a larger one
      |h| / L_h, within which the embedding is defined.
    Where the head sees h itself, drift and budget are L_h eps and t / L_h.

    Args:
        classifier: Any classifier; its head is not used.
        images: (B, C, H, W) in [0, 1].
        eps: Budget, in pixel units; give this or the threshold.
        threshold: Largest drift allowed, a Euclidean distance of embeddings.
        norm: 'l2' or 'linf'.
        prepared: `network_lipschitz_bound(classifier.encoder, norm=norm)`, to be computed once per
            model.

    Returns:
        A deterministic claim about the model. A network whose layers have no known norm is
        refused.

    Raises:
        InputError: When both or neither of eps and threshold are given, one is out of range, or
            `prepared` was computed for the other norm.

    Reference:
        Hein and Andriushchenko, Formal Guarantees on the Robustness of a Classifier, NeurIPS
        2017, for certifying by a Lipschitz bound; the chord formula is elementary.
    """
    check_one_of(eps, threshold)
    refuse_views(classifier, method="displacement")
    bound = usable_norm(classifier, norm, prepared)
    raw, slack = raw_in_double(classifier, images, bound)
    size = (row_lengths(raw) - slack).clamp_min(0.0)
    total = bound.total * UP
    if eps is not None:
        # A leap of h counts as if it came with the perturbation; `slack` holds it for the image.
        reach = total * eps + 2.0 * bound.leap
        drift = _drift(size, reach, on_sphere=classifier.normalizes)
        budget = torch.full_like(drift, eps)
    else:
        assert threshold is not None
        drift = torch.full_like(size, threshold)
        budget = _budget(size, threshold, on_sphere=classifier.normalizes)
        budget = (budget - 2.0 * bound.leap).clamp_min(0.0) / total
    return Drift("displacement", norm, "deterministic", "model", budget, drift)


def smoothed_displacement(
    classifier: Classifier,
    images: Tensor,
    *,
    sigma: float = 0.25,
    eps: float | None = None,
    threshold: float | None = None,
    norm: CertifiedNorm = "l2",
) -> Drift:
    """Bound the drift of the mean embedding g(x) = E f(x + sigma e), which is not renormalized.

    Claimed of g itself for every image, whatever the network computes, as long as f lies on the
    unit sphere. Guarantee: deterministic; but g is known only through samples, whose error is not
    part of the claim. The network is not called.

    For a unit vector u, u.f lies in [-1, 1], so u.(g(x + v) - g(x)) is at most twice the total
    variation between the two Gaussians: |g(x + v) - g(x)| <= 2 (2 Phi(|v| / (2 sigma)) - 1).
    Conversely a drift t < 2 keeps the budget 2 sigma Phi^-1((1 + t/2) / 2).

    Args:
        classifier: A classifier with embeddings on the unit sphere; its head is not used.
        images: (B, C, H, W); only their number is used.
        sigma: Standard deviation of the noise, in pixel units, before the input normalization.
        eps: Budget, in pixel units; give this or the threshold.
        threshold: Largest drift allowed; 2 or more gives an infinite budget.
        norm: 'l2'; for 'linf' the L2 norm of the perturbation is at most sqrt(D) times as large.

    Returns:
        A deterministic claim about the smoothed model.

    Raises:
        InputError: When both or neither of eps and threshold are given, or a number is out of
            range.
        UnsupportedError: When the embeddings are not on the sphere.

    Reference:
        Cohen et al., Certified Adversarial Robustness via Randomized Smoothing, ICML 2019, for the
        distance of the two Gaussians; Salman et al., NeurIPS 2019, lemma 1.
    """
    check_one_of(eps, threshold)
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma {sigma} is not positive and finite; try 0.25")
    if not classifier.normalizes:
        raise UnsupportedError(
            "smoothed_displacement needs embeddings on the unit sphere, since its theorem needs "
            "bounded ones; use displacement, or center_smoothing"
        )
    root = (
        1.0
        if check_certified_norm(norm) == "l2"
        else math.sqrt(math.prod(classifier.image_shape)) * UP
    )
    if eps is not None:
        # 2 Phi(t) - 1 = erf(t / sqrt 2), which keeps its digits where t is small.
        reach = eps * root / (2.0 * sigma)
        drift = min(2.0 * math.erf(reach / math.sqrt(2.0)) * UP, DIAMETER)
        budget = eps
    else:
        assert threshold is not None
        drift = threshold
        tail = max((1.0 - threshold / 2.0) / 2.0, 0.0)
        budget = max(-2.0 * sigma * float(ndtri(tail)) / root * DOWN, 0.0)
    rows = torch.ones(len(images), dtype=torch.float64, device=images.device)
    subject = f"smoothed model (sigma={sigma:g}, mean embedding)"
    return Drift("displacement", norm, "deterministic", subject, budget * rows, drift * rows)


def check_one_of(eps: float | None, threshold: float | None) -> None:
    """Refuse questions that are not exactly one of 'how far' and 'how large'.

    Args:
        eps: Budget or None.
        threshold: Largest drift allowed, or None.

    Raises:
        InputError: When both or neither are given, or one is negative or not finite.
    """
    if (eps is None) == (threshold is None):
        raise InputError(f"eps={eps} and threshold={threshold}; give exactly one of the two")
    if eps is not None and not 0 <= eps < math.inf:
        raise InputError(f"eps {eps} is negative or not finite; use a radius >= 0")
    if threshold is not None and not 0 < threshold < math.inf:
        raise InputError(f"threshold {threshold} is not positive and finite; try 0.5")


def usable_norm(
    classifier: Classifier, norm: CertifiedNorm, prepared: NetworkLipschitzBound | None
) -> NetworkLipschitzBound:
    """Return a bound of the encoder in a norm.

    Args:
        classifier: The classifier.
        norm: 'l2' or 'linf'.
        prepared: From `network_lipschitz_bound`; None to compute it now.

    Returns:
        The bound.

    Raises:
        InputError: When it was prepared for another norm, or is no bound of a traced encoder.
    """
    if prepared is None:
        own_model(classifier)
        with one_thread():
            return network_lipschitz_bound(classifier.encoder, norm=norm)
    if prepared.norm != norm or prepared.network is None:
        raise InputError(
            f"the prepared norm is for {prepared.norm}, not {norm}; use "
            f"network_norm(classifier.encoder, norm={norm!r})"
        )
    if prepared.weights != network_hash(classifier.encoder):
        raise InputError("the prepared norm is of an encoder with other numbers; compute it again")
    return prepared


def raw_in_double(
    classifier: Classifier, images: Tensor, bound: NetworkLipschitzBound
) -> tuple[Tensor, Tensor]:
    """Evaluate h with a bound of its rounding, and compare it with the user's encoder in float64.

    Args:
        classifier: The classifier; left as it was.
        images: (B, C, H, W) in [0, 1].
        bound: The encoder's norm, from `usable_norm`.

    Returns:
        (B, d) float64 raw embeddings, and the (B,) slack within which the network in real
        arithmetic lies, its leaps included.

    Raises:
        InputError: When the bound comes without its network.
    """
    network = bound.network
    if network is None:
        raise InputError("the prepared norm comes without its network; use network_norm")
    points = prepared_images(network, images)

    def enclose(rows: Tensor) -> tuple[Tensor, Tensor]:
        center = enclosed(network, bound.leap, rows)
        return center.raw, center.drift

    with torch.inference_mode(False), torch.no_grad():
        exact = own_model(classifier)
        found = each(enclose, points.split(1), workers=workers(network))
        raw, slack = (torch.cat(column) for column in zip(*found, strict=True))
        allowed = 4.0 * slack[:, None] + ROUNDING * row_lengths(raw)[:, None] + 1e-290
        check_agreement(
            exact.raw_embeddings,
            lambda _: (raw, allowed.expand_as(raw)),
            points,
            what="number of h",
        )
    return raw, slack


def _drift(size: Tensor, reach: float, *, on_sphere: bool) -> Tensor:
    if not on_sphere:
        return torch.full_like(size, reach * UP)
    sine = torch.where(size > 0, reach / size, torch.inf)
    # 2 sin(arcsin(s) / 2) = sqrt(2 (1 - sqrt(1 - s^2))) = s sqrt(2 / (1 + sqrt(1 - s^2))).
    # 1 - s^2 loses digits near s = 1; 1e-15 less under the root covers that loss.
    cosine = torch.sqrt((1.0 - sine.clamp(max=1.0) ** 2 - 1e-15).clamp_min(0.0))
    chord = sine * torch.sqrt(2.0 / (1.0 + cosine)) * UP
    return torch.where(sine < 1.0, chord, DIAMETER)


def _budget(size: Tensor, threshold: float, *, on_sphere: bool) -> Tensor:
    if not on_sphere:
        return torch.full_like(size, threshold * DOWN)
    if threshold >= math.sqrt(2.0):
        return size * DOWN
    # sin(2 arcsin(t / 2)) = t sqrt(1 - t^2 / 4).
    return size * (threshold * math.sqrt(1.0 - threshold**2 / 4.0)) * DOWN
