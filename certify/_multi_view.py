"""Certify multi-view inference with fixed linear views."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from robustcl.certify._certified_radius import STEPS, best_claim
from robustcl.certify._crown import Effort, margins_at, staged_search
from robustcl.certify._local import first_slopes
from robustcl.certify._product import product_claim, product_pairs
from robustcl.certify.agreement import (
    INSIDE,
    TOGETHER,
    alone,
    ball_points,
    check_agreement,
    own_model,
    refuse_hidden,
)
from robustcl.certify.bounds.layers import view_norm
from robustcl.certify.bounds.networks import NetworkLipschitzBound
from robustcl.certify.claim import NO_RIVAL, Claim, abstained, join_claims, nearest_other_class
from robustcl.certify.image_by_image import enclosed_scores, workers
from robustcl.certify.one_thread import each, one_thread
from robustcl.certify.pairs import pairs
from robustcl.certify.preparation import PreparedModel, prepared_images, prepared_model
from robustcl.certify.rounding import round_up, row_lengths
from robustcl.certify.search import Evaluation
from robustcl.certify.verification_problem import (
    ImageEnclosures,
    VerificationProblem,
    enclose_images,
    state_problem,
    verification_problem,
)
from robustcl.core.abstention import ABSTAINED
from robustcl.core.choices import AGGREGATES, CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError, UnsupportedError, ViolationError
from robustcl.core.hashes import network_hash
from robustcl.declarations.claims import MULTI_VIEW as SUBJECT
from robustcl.models.inference_views import LinearView
from robustcl.models.multi_view import MultiView

ANGLE = 1e-7  # acos and asin lose half the digits near 1
_ROUNDING = 1e-10
HALVINGS = 60
CERTIFIED = tuple(name for name in AGGREGATES if name not in ("max", "confidence"))


@dataclass(frozen=True, eq=False)
class PreparedViews:
    """Hold what the certificate needs of a multi-view model, whatever the images.

    Args:
        traced: The classifier of one view.
        norms: Bounds of the views' norms, in the norm of the perturbation.
        spatial: The same in L2.
    """

    traced: PreparedModel
    norms: tuple[float, ...]
    spatial: tuple[float, ...]

    @property
    def averaged(self) -> PreparedModel:
        """The classifier whose h is the mean over views: it moves by the mean norm at most."""
        mean = round_up(math.fsum(self.norms) / len(self.norms))
        wide = round_up(math.fsum(self.spatial) / len(self.spatial))
        return replace(self.traced, bound=_scaled(self.traced.bound, mean, wide))


def _scaled(bound: NetworkLipschitzBound, mean: float, wide: float) -> NetworkLipschitzBound:
    other = None
    if bound.spatial is not None:
        other = (_scaled(bound.spatial[0], wide, wide), bound.spatial[1])
    return replace(bound, prefix=bound.prefix * mean, total=bound.total * mean, spatial=other)


def prepared_views(classifier: Classifier, *, norm: CertifiedNorm) -> PreparedViews:
    """Trace the classifier of one view and bound the views' norms, once for any number of images.

    Args:
        classifier: A `MultiView`.
        norm: 'l2' or 'linf'.

    Returns:
        The traced model.

    Raises:
        UnsupportedError: When it is no multi-view model, or its aggregate or a view has no
            certificate.
    """
    if not isinstance(classifier, MultiView):
        raise UnsupportedError("multi_view certifies multi-view models; give --views, or use sound")
    if classifier.aggregate not in CERTIFIED:
        raise UnsupportedError(
            f"multi_view certifies the aggregates {', '.join(CERTIFIED)}, not "
            f"{classifier.aggregate!r}; smoothing:form=vote certifies any"
        )
    strange = [view for view in classifier.views if not isinstance(view, LinearView)]
    if strange:
        raise UnsupportedError(
            f"multi_view needs linear views, and {type(strange[0]).__name__} is none; use shift, "
            "crop or noise, or smoothing:form=vote"
        )
    views = cast(Sequence[LinearView], classifier.views)
    return PreparedViews(
        prepared_model(classifier.single, norm=norm, method="multi_view"),
        tuple(view_norm(view, norm=norm) for view in views),
        tuple(view_norm(view, norm="l2") for view in views),
    )


def multi_view(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: CertifiedNorm = "l2",
    steps: int = 8,
    prepared: PreparedViews | None = None,
) -> Claim:
    """Certify that no perturbation of norm below the radius changes the multi-view prediction.

    Claimed of the real-arithmetic multi-view model with the stored weights and views in eval mode,
    for one perturbation in pixel units that all views share, whether or not it leaves [0, 1].
    Guarantee: deterministic. With |V_k| the views' norms and L the encoder's bound:

    * 'embedding', and 'score' of scores that are not read off the sphere: the mean h moves by at
      most mean|V_k| L, so `product` applies to it; where decisions are linear in h the mean of the
      views' linear lower bounds over their balls (`crown`) is tried as well;
    * 'score' on the sphere: each view's f turns by at most arcsin(|V_k| L r / |h_k|), and the
      mean of the smallest margins within these angles must stay positive;
    * 'vote': the (K // 2 + 1)-th largest of the radii r_k / |V_k| of the views that vote for the
      class, with r_k of `certified_radius`, or of `product` where steps is 0.

    Args:
        classifier: A `MultiView` with linear views and a prototype, linear or identity head.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'.
        steps: Radii tried with linear bounds of the mean; 0 for layer norms alone.
        prepared: `prepared_views(classifier, norm=norm)`, once per model.

    Returns:
        A deterministic claim about the multi-view model.

    Raises:
        InputError: When steps are 1 or negative, or `prepared` was computed for the other norm
            or other numbers.

    Reference:
        The mean of Lipschitz margins is ours; Tsuzuku et al., NeurIPS 2018, for one view.
    """
    if steps < 0 or steps == 1:
        raise InputError(f"steps {steps} is not 0 or at least 2; try 8")
    if prepared is not None and not isinstance(prepared, PreparedViews):
        raise InputError(
            f"prepared is a {type(prepared).__name__}; give what `prepared_views` returns"
        )
    model = prepared or prepared_views(classifier, norm=norm)
    if model.traced.norm != norm:
        raise InputError(f"the model was prepared for {model.traced.norm}, not {norm}")
    if model.traced.weights != network_hash(cast(MultiView, classifier).single):
        raise InputError("prepared is of a model with other numbers; prepare this one again")
    network = model.traced.network
    points = prepared_images(network, images)
    with torch.inference_mode(False), torch.no_grad():
        exact = cast(MultiView, own_model(classifier))
        refuse_hidden(exact.single)
        with one_thread():
            scores = alone(exact, points)
        known = torch.isfinite(scores).all(dim=1)
        predicted = scores.nan_to_num(nan=-torch.inf).argmax(dim=1)
        certify = _voted if exact.aggregate == "vote" else _averaged

        def one(row: int) -> Claim:
            part = slice(row, row + 1)
            return certify(exact, model, points[part], predicted[part], steps)

        parts = each(one, range(len(points)), workers=workers(network))
        found = abstained(join_claims(parts), ~known)
        _check(exact, model, points, found)
    return found


def compare_views(model: PreparedViews, classifier: Classifier, points: Tensor) -> None:
    """Refuse a multi-view model whose views' float64 scores lie outside of the enclosures.

    Args:
        model: From `prepared_views`.
        classifier: The user's model.
        points: (N, C, H, W), in or out of [0, 1].
    """
    with torch.inference_mode(False), torch.no_grad():
        exact = cast(MultiView, own_model(classifier))
        for part in points.detach().double().to(model.traced.network.device).split(TOGETHER):
            _check_views(exact, model, part)


def _check_views(exact: MultiView, model: PreparedViews, points: Tensor) -> None:
    for view in exact.views:
        check_agreement(exact.single, partial(enclosed_scores, model.traced), view(points))


def _check(exact: MultiView, model: PreparedViews, points: Tensor, claim: Claim) -> None:
    # Every view by itself, at the images and at points of the balls, and the class there.
    farthest = float(points[0].numel())
    for rows in torch.arange(len(points), device=points.device).split(TOGETHER):
        radius = claim.radius[rows].clamp(max=farthest) * INSIDE
        around = [points[rows], *ball_points(points[rows], radius, model.traced.norm)]
        _check_views(exact, model, torch.cat(around))
        scores = exact(torch.cat(around))
        classes = claim.predicted[rows].repeat(len(around))
        lead = scores.amax(dim=1) - scores.gather(1, classes.clamp_min(0)[:, None])[:, 0]
        sure = lead > 1e-9 * (1.0 + scores.abs().amax(dim=1))
        beaten = torch.nonzero(sure & (classes >= 0) & (radius > 0).repeat(len(around)))[:, 0]
        if len(beaten):
            row = int(rows[int(beaten[0]) % len(rows)])
            raise ViolationError(
                f"a point within the certified {model.traced.norm} radius "
                f"{float(claim.radius[row]):.6g} of image {row} has another class: the "
                "certificate is wrong, please report it"
            )


def _claim(norm: CertifiedNorm, predicted: Tensor, radius: Tensor, rival: Tensor) -> Claim:
    return Claim("multi_view", norm, "deterministic", SUBJECT, predicted, radius, rival)


def _voted(
    many: MultiView, model: PreparedViews, images: Tensor, predicted: Tensor, steps: int
) -> Claim:
    seen = [_seen(view, images) for view in many.views]
    tasks = [
        verification_problem(model.traced, points, many.single(points).argmax(1))
        for points, _ in seen
    ]
    effort = Effort(STEPS)
    claims = [best_claim(task, effort) if steps else product_claim(task) for task in tasks]
    errors = torch.stack([error for _, error in seen])
    classes = torch.stack([claim.predicted for claim in claims])
    radii = torch.stack([claim.radius for claim in claims])
    sizes = torch.tensor(model.norms, dtype=torch.float64, device=radii.device)[:, None]
    radii = (radii - errors).clamp_min(0.0) / sizes / round_up(1.0)
    radii = torch.where(classes == predicted, radii, 0.0)
    order = radii.argsort(dim=0, descending=True)[len(classes) // 2]
    rows = torch.arange(len(predicted), device=radii.device)
    radius = radii[order, rows]
    rival = torch.stack([claim.rival for claim in claims])[order, rows]
    return _claim(
        model.traced.norm,
        torch.where(radius > 0, predicted, ABSTAINED),
        radius,
        torch.where(radius > 0, rival, NO_RIVAL),
    )


def _averaged(
    many: MultiView, model: PreparedViews, images: Tensor, predicted: Tensor, steps: int
) -> Claim:
    centers = [_center(model.traced, view, images) for view in many.views]
    on_sphere = model.traced.on_sphere
    by_score = many.aggregate == "score" and on_sphere
    raw = torch.stack([point.raw for point in centers])
    if by_score:
        radii = _turned(model, centers, predicted)
    else:
        drift = torch.stack([point.drift for point in centers]).mean(dim=0)
        drift = drift + _ROUNDING * row_lengths(raw).mean(dim=0)
        mean = replace(centers[0], raw=raw.mean(dim=0), drift=drift)
        task = state_problem(model.averaged, mean, predicted)
        radii = product_pairs(task)
        if steps and not (on_sphere and bool(task.pair.offsets.any())):
            with suppress(UnsupportedError):
                radii = _bounded(model, centers, task, radii, steps)
    radius, rival = nearest_other_class(radii, predicted)
    return _claim(model.traced.norm, predicted, radius, rival)


def _center(model: PreparedModel, view: torch.nn.Module, images: Tensor) -> ImageEnclosures:
    points, error = _seen(view, images)
    bound = model.bound if model.bound.spatial is None else model.bound.spatial[0]
    point = enclose_images(model, points)
    return replace(point, drift=point.drift + bound.total * error)


def _seen(view: torch.nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    # The view in float64, and a bound of its rounding in L2.
    assert isinstance(view, LinearView)
    size = row_lengths(images.flatten(1))
    terms = sum(images.shape[2:]) + 8
    for matrix in (view.rows, view.columns):
        if matrix is not None:
            size = size * torch.linalg.vector_norm(matrix.double())
    if view.offset is not None:
        size = size + torch.linalg.vector_norm(view.offset.double())
    exact = view.rows is None and view.columns is None and view.offset is None
    return view(images), size * (0.0 if exact else terms * 2.0**-52)


def _turned(model: PreparedViews, centers: Sequence[ImageEnclosures], predicted: Tensor) -> Tensor:
    # The largest radius at which the mean of the least margins within the angles is positive.
    pair = pairs(model.traced.weight, model.traced.bias, predicted)
    lengths = row_lengths(pair.directions)
    raw = torch.stack([point.raw for point in centers])
    sizes = row_lengths(raw)
    cosine = torch.einsum("bkd,vbd->vbk", pair.directions, raw) / sizes.clamp_min(1e-300)[..., None]
    start = torch.acos((cosine / lengths.clamp_min(1e-300)).clamp(-1.0, 1.0)) + ANGLE
    reach = torch.tensor(model.norms, dtype=torch.float64, device=raw.device) * (
        model.traced.bound.total * round_up(1.0)
    )
    drift = torch.stack([point.drift for point in centers]) + _ROUNDING * sizes
    slack = _ROUNDING * (lengths + pair.offsets.abs())

    def holds(radius: Tensor) -> Tensor:
        moved = reach[:, None, None] * radius + drift[..., None]
        share = (moved / sizes[..., None].clamp_min(1e-300)).clamp(max=1.0)
        turn = torch.where(share < 1.0, torch.asin(share) + ANGLE, torch.pi)
        least = lengths * torch.cos((start + turn).clamp(max=torch.pi))
        return least.mean(dim=0) + pair.offsets > slack

    low = torch.zeros_like(pair.offsets)
    high = torch.full_like(low, 2.0 * math.sqrt(math.prod(centers[0].images.shape[1:])))
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        fine = holds(middle)
        low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
    return low


def _bounded(
    model: PreparedViews,
    centers: Sequence[ImageEnclosures],
    mean: VerificationProblem,
    known: Tensor,
    steps: int,
) -> Tensor:
    # Raise the radii by the mean of linear lower bounds of the views' margins over their balls.
    tasks = [state_problem(model.traced, point, mean.predicted) for point in centers]
    own = torch.nn.functional.one_hot(mean.predicted, known.shape[1]).bool()
    slope = sum(
        size * first_slopes(task) for size, task in zip(model.norms, tasks, strict=True)
    ) / len(tasks)
    most = 2.0 * math.sqrt(math.prod(mean.images.shape[1:]))
    ceiling = mean.margins.clamp_min(0.0) / cast(Tensor, slope).clamp_min(1e-300)
    ceiling = torch.maximum(ceiling.clamp(max=most), known).masked_fill(own, torch.inf)

    def at(rows: Tensor, radius: Tensor, others: Tensor, effort: Effort) -> Tensor:
        found = [
            margins_at(task, rows, radius * size * round_up(1.0), others, effort)
            - _ROUNDING * task.margins[rows].abs().gather(1, others)
            - _unsure(task, rows, others)
            for size, task in zip(model.norms, tasks, strict=True)
        ]
        return torch.stack(found).mean(dim=0) * (1.0 - _ROUNDING)

    def evaluate(units: int | None) -> Evaluation:
        effort = Effort(units=units)
        return lambda rows, radius, others: at(rows, radius, others, effort)

    network = model.traced.fast
    return staged_search(network, evaluate, mean.margins, ceiling, known, steps, None)


def _unsure(task: VerificationProblem, rows: Tensor, others: Tensor) -> Tensor:
    # What the rounding of the view itself may change in a margin.
    lengths = row_lengths(task.directions[rows]).gather(1, others)
    return lengths * task.drift[rows][:, None]
