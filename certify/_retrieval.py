"""Certify that an item of a gallery stays among the nearest: retrieval without labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustcl.certify._center_smoothing import Noise, noisy_embeddings
from robustcl.certify._displacement import raw_in_double, usable_norm
from robustcl.certify.bounds.confidence import betting_lower_bound
from robustcl.certify.bounds.networks import NetworkLipschitzBound
from robustcl.certify.norms import check_certified_norm
from robustcl.certify.preparation import refuse_views
from robustcl.certify.rounding import row_lengths
from robustcl.core.checks import check_images
from robustcl.core.choices import CertifiedNorm, Guarantee
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.core.modules import eval_mode
from robustcl.core.special_functions import ndtri

_ROUNDING = 1e-12  # of a dot product in float64, relative to the lengths of its factors
DOWN, UP = 1.0 - 1e-12, 1.0 + 1e-12
_NONE = -1
_CHUNK = 256  # other classes whose samples are held at a time


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Claim that an item stays among the k nearest for all perturbations below the radius.

    Args:
        norm: CertifiedNorm of the perturbation.
        guarantee: 'deterministic', or 'probabilistic': wrong with probability at most alpha per
            image.
        subject: Whose embedding is meant: the model's, or a smoothed one.
        k: Length of the list.
        items: (B,) the items.
        rank: (B,) the item's rank, 1 for the nearest; ties, and for a smoothed model other classes
            that are not shown to be farther, count against it.
        radius: (B,) float64, in pixel units; 0 where nothing is claimed, infinite where the
            gallery has no more than k items. Perturbations of norm strictly below it are covered.
        rival: (B,) the other class whose overtaking would push the item out; -1: none.
    """

    norm: CertifiedNorm
    guarantee: Guarantee
    subject: str
    k: int
    items: Tensor
    rank: Tensor
    radius: Tensor
    rival: Tensor


def retrieval(
    classifier: Classifier,
    images: Tensor,
    gallery: Tensor,
    *,
    items: Tensor | None = None,
    k: int = 1,
    norm: CertifiedNorm = "l2",
    prepared: NetworkLipschitzBound | None = None,
) -> Retrieval:
    """Certify that an item stays among the k nearest of a fixed gallery.

    Claimed of the real-arithmetic network with the stored weights in eval mode and the gallery as
    given, for all perturbations in pixel units. Items are ranked by Euclidean distance to f(x),
    which for items of unit norm is the order of cosine similarity. Guarantee: deterministic.

    Item i is nearer than j where a_j.f + c_j > 0, with a_j = g_i - g_j and
    c_j = (|g_j|^2 - |g_i|^2) / 2. Inside r_j other class j cannot overtake:
    r_j = |h| sin(min(phi_j, pi/2)) / L_h with phi_j = arcsin(a_j.f/|a_j|) + arcsin(c_j/|a_j|), the
    distance of h to the edge of a cone; for c_j = 0 it is a_j.h / (|a_j| L_h). Where the head
    sees h itself, r_j = (a_j.h + c_j) / (|a_j| L_h). The item leaves the list only when k other
    classes are ahead of it, so the radius is the k-th smallest r_j, those ahead already counting
    0. This is the (k - rank + 1)-th smallest over the other classes behind it.

    Args:
        classifier: Any classifier; its head is not used.
        images: (B, C, H, W) queries in [0, 1].
        gallery: (M, d) embeddings, of unit norm or not.
        items: (B,) an item per query; the nearest by default.
        k: Length of the list.
        norm: 'l2' or 'linf'.
        prepared: `network_norm(classifier.encoder, norm=norm)`, to be computed once per model.

    Returns:
        A deterministic claim about the model. A network whose layers have no known norm is
        refused.

    Raises:
        InputError: When the gallery, the items or k are unusable, or `prepared` was computed for
            the other norm.

    Reference:
        Tsuzuku et al., Lipschitz-Margin Training, NeurIPS 2018, for margins over a Lipschitz
        bound; the k-th smallest pairwise radius is elementary.
    """
    refuse_views(classifier, method="retrieval")
    bound = usable_norm(classifier, norm, prepared)
    raw, slack = raw_in_double(classifier, images, bound)
    known = check_gallery(gallery, raw.shape[1], items, len(images), k=k).to(raw.device)
    # Query by query, so that sums are added in the same order in any company.
    parts = [
        _ranked(classifier, known, bound, k, point, lost, None if items is None else item)
        for point, lost, item in zip(
            raw.split(1), slack.split(1), _per_query(items, raw), strict=True
        )
    ]
    columns = (torch.cat(column) for column in zip(*parts, strict=True))
    chosen, rank, radius, rival = columns
    return Retrieval(norm, "deterministic", "model", k, chosen, rank, radius, rival)


def _per_query(items: Tensor | None, raw: Tensor) -> Sequence[Tensor]:
    if items is None:
        return raw.new_zeros(len(raw), dtype=torch.int64).split(1)
    return items.to(raw.device).split(1)


def _ranked(
    classifier: Classifier,
    known: Tensor,
    bound: NetworkLipschitzBound,
    k: int,
    raw: Tensor,
    slack: Tensor,
    item: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # Item, rank, radius and other class of one query.
    size = row_lengths(raw)[:, None]
    points = raw / size if classifier.normalizes else raw
    chosen = _nearest(points, known) if item is None else item
    lengths, offsets = _differences(known, chosen)
    dots = _dots(points, known, chosen)
    if classifier.normalizes:
        distance = size * _sines(dots / lengths, offsets / lengths)
    else:
        distance = (dots + offsets) / lengths
    # Twins are tied for ever: lengths 0, distance NaN.
    behind = (dots + offsets > 0) & (lengths > 0)
    distance = torch.where(behind, (distance * DOWN - slack[:, None]).clamp_min(0.0), 0.0)
    rank, radius, rival = _kth(distance / (bound.total * UP), behind, chosen, k)
    return chosen, rank, radius, rival


def smoothed_retrieval(
    classifier: Classifier,
    images: Tensor,
    gallery: Tensor,
    *,
    items: Tensor,
    k: int = 1,
    norm: CertifiedNorm = "l2",
    noise: Noise | None = None,
    seeds: Sequence[int] | None = None,
) -> Retrieval:
    """Certify that an item stays among the k nearest to the mean embedding g(x) = E f(x + e).

    Claimed of the smoothed model, which ranks items by Euclidean distance to g(x), not
    renormalized. Guarantee: probabilistic, wrong with probability at most alpha per image, up to
    floating-point sampling. Per other class j, r_j = sigma [Phi^-1((1 + mu_j)/2) - Phi^-1((1 +
    t_j)/2)] with a lower confidence bound mu_j of a_j.g/|a_j| and t_j = -c_j/|a_j| (see
    `retrieval` for a_j and c_j, `smoothing` for the form). The radius is the k-th smallest. It can
    be too large only if one of the k other classes of truly smallest radius, which are fixed, is
    overestimated; so level alpha / k per other class is enough.

    Args:
        classifier: A classifier with embeddings on the unit sphere; its head is not used.
        images: (B, C, H, W) queries in [0, 1].
        gallery: (M, d) embeddings, of unit norm or not.
        items: (B,) an item per query, chosen without looking at the noise drawn here.
        k: Length of the list.
        norm: 'l2'; for 'linf' the L2 radius is divided by sqrt(D).
        noise: Standard deviation, samples and level; `Noise()` by default.
        seeds: One seed per image; 0, 1, ... by default.

    Returns:
        A probabilistic claim about the smoothed model; radius 0 where it abstains.

    Raises:
        InputError: When the gallery, the items, k or the seeds are unusable.
        UnsupportedError: When the embeddings are not on the sphere.

    Reference:
        Salman et al., Provably Robust Deep Learning via Adversarially Trained Smoothed
        Classifiers, NeurIPS 2019, lemma 2.
    """
    noise = noise or Noise()
    if not classifier.normalizes:
        raise UnsupportedError(
            "smoothed_retrieval needs embeddings on the unit sphere; use retrieval"
        )
    images = check_images(images, classifier.image_shape)
    if seeds is not None and len(seeds) != len(images):
        raise InputError(f"{len(seeds)} seeds for {len(images)} images; give one each")
    known = check_gallery(gallery, gallery.shape[-1], items, len(images), k=k).cpu()
    chosen = items.cpu()
    lengths, offsets = _differences(known, chosen)
    rows = []
    with torch.no_grad(), eval_mode(classifier):
        for row, image in enumerate(images):
            generator = torch.Generator().manual_seed(row if seeds is None else seeds[row])
            samples = noisy_embeddings(classifier.embeddings, image, noise, generator)
            directions = known[chosen[row]] - known
            rows.append(_pair_radii(samples, directions, lengths[row], offsets[row], noise, k))
    radii = torch.stack(rows)
    rank, radius, rival = _kth(radii, radii > 0, chosen, k)
    scale = 1.0 if check_certified_norm(norm) == "l2" else DOWN / float(np.sqrt(images[0].numel()))
    subject = f"smoothed model (sigma={noise.sigma:g}, mean embedding)"
    return Retrieval(norm, "probabilistic", subject, k, chosen, rank, radius * scale, rival)


def check_gallery(
    gallery: Tensor, width: int, items: Tensor | None, count: int, *, k: int
) -> Tensor:
    """Refuse what cannot be ranked.

    Args:
        gallery: (M, d) embeddings.
        width: d of the encoder.
        items: (B,) items, or None.
        count: B.
        k: Length of the list.

    Returns:
        The gallery in float64.

    Raises:
        InputError: When the gallery is not a finite (M, d) matrix, k < 1, or the items are not
            (B,) numbers below M.
    """
    if gallery.ndim != 2 or gallery.shape[1] != width or not len(gallery):
        raise InputError(f"gallery of shape {tuple(gallery.shape)}, not (M, {width}) with M >= 1")
    if not bool(torch.isfinite(gallery).all()):
        raise InputError("the gallery has entries that are not finite; leave those items out")
    if k < 1:
        raise InputError(f"k {k} is below 1; use the length of the list")
    if items is not None and (
        items.shape != (count,) or not bool(((items >= 0) & (items < len(gallery))).all())
    ):
        raise InputError(
            f"items {items.tolist()} for {count} images; give each a number below {len(gallery)}"
        )
    return gallery.detach().double()


def _nearest(points: Tensor, known: Tensor) -> Tensor:
    return (points @ known.T - (known * known).sum(dim=1) / 2.0).argmax(dim=1)


def _differences(known: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    # |a_j| from differences, so that near twins keep their digits, and c_j rounded down; (B, M).
    lengths = torch.cdist(known[chosen], known, compute_mode="donot_use_mm_for_euclid_dist")
    sizes = row_lengths(known)
    mine = sizes[chosen][:, None]
    offsets = (sizes - mine) * (sizes + mine) / 2.0
    return lengths, offsets - _ROUNDING * (sizes**2 + mine**2)


def _dots(points: Tensor, known: Tensor, chosen: Tensor) -> Tensor:
    # a_j.f rounded down, (B, M).
    scores = points @ known.T
    sizes = row_lengths(known)
    error = row_lengths(points)[:, None] * (sizes + sizes[chosen][:, None])
    return scores.gather(1, chosen[:, None]) - scores - _ROUNDING * error


def _sines(cosine: Tensor, shift: Tensor) -> Tensor:
    # sin(min(asin u + asin w, pi/2)) from below, where u + w > 0: u sqrt(1-w^2) + w sqrt(1-u^2),
    # which loses fewer digits than the arc sines; each root is rounded against its factor's sign.
    def root(value: Tensor, factor: Tensor) -> Tensor:
        slack = torch.where(factor > 0, -1e-14, 1e-14)
        return (1.0 - value**2 + slack).clamp_min(0.0).sqrt()

    u, w = cosine.clamp(-1.0, 1.0), shift.clamp(-1.0, 1.0)
    sine = u * root(w, u) + w * root(u, w)
    # Past pi/2 the edge is farther than h = 0 itself, where the sphere ends.
    beyond = (shift >= 1.0) | ((u > 0) & (w > 0) & (u**2 + w**2 >= 1.0))
    return torch.where(beyond, 1.0, sine)


def _kth(radii: Tensor, behind: Tensor, chosen: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    own = torch.nn.functional.one_hot(chosen, radii.shape[1]).bool()
    rank = 1 + (~behind & ~own).sum(dim=1)
    radii = radii.masked_fill(~behind, 0.0).masked_fill(own, torch.inf)
    if k >= radii.shape[1]:
        nobody = torch.full_like(chosen, _NONE)
        return rank, torch.full_like(radii[:, 0], torch.inf), nobody
    radius, rival = radii.kthvalue(k, dim=1)
    return rank, radius, torch.where(torch.isfinite(radius), rival, _NONE)


def _pair_radii(
    samples: Tensor, directions: Tensor, lengths: Tensor, offsets: Tensor, noise: Noise, k: int
) -> Tensor:
    # (M,) radii of one image, 0 where the other class may be ahead.
    safe = lengths.clamp_min(1e-300)
    lower = torch.cat([
        _lower_bounds(samples @ units.T, noise.alpha / k)
        for units in (directions / safe[:, None]).split(_CHUNK)
    ]).numpy()
    threshold = (-offsets / safe).numpy()
    radii = noise.sigma * (_quantile(lower - 1e-12) - _quantile(threshold + 1e-12))
    radii = np.where(threshold >= 1.0, 0.0, np.where(threshold < -1.0, np.inf, radii))
    radii = np.where(lengths.numpy() > 0, radii, 0.0)
    return torch.from_numpy(np.maximum(radii, 0.0) * DOWN)


def _lower_bounds(values: Tensor, alpha: float) -> Tensor:
    # A sample that is not finite counts as the worst one.
    values = torch.nan_to_num(values, nan=-1.0).clamp(-1.0, 1.0)
    return torch.from_numpy(
        2.0 * betting_lower_bound(((values + 1.0) / 2.0).numpy(), alpha=alpha) - 1.0
    )


def _quantile(mean: np.ndarray) -> np.ndarray:
    # Phi^-1((1 + mean) / 2), written so that no digits are lost near 1.
    return -np.asarray(ndtri((1.0 - np.clip(mean, -1.0, 1.0)) / 2.0))
