"""State, per image and rival, what deterministic certificates have to prove."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from certify.agreement import (
    TOGETHER,
    alone,
    check_agreement,
    check_claim,
    lowered_scores,
    own_model,
)
from certify.bounds.dense_norm import round_up
from certify.bounds.network_norm import NetworkNorm, traced_norm
from certify.bounds.plain_modules import check_still, check_values, state_of
from certify.bounds.regions import Region, center_regions, in_type
from certify.bounds.rounding import UNITS, length, row_lengths
from certify.bounds.trace import Network, trace
from certify.claim import ABSTAINED, NO_RIVAL, Claim, joined
from certify.norms import Norm, check_norm
from certify.one_thread import each, one_thread, spare_threads
from certify.pairs import Pairs, affine_head, pairs
from robustcl.check_images import check_images
from robustcl.classifier import Classifier
from robustcl.errors import InputError, UnsupportedError
from robustcl.network_hash import network_hash
from robustcl.views.multi_view import MultiView
from robustcl.views.random_views import RandomViews

CHEAP = 50_000  # numbers per image inside the network, below which float64 is used everywhere
HEAD_POINTS = 64  # embeddings of each size at which a head is compared with its affine form
NUMBERS = 1_000_000  # inside networks, that are enclosed at once where one by one is not needed
LARGE = 5_000  # numbers inside a network, from which it pays to treat several images at a time


@dataclass(frozen=True, eq=False)
class Traced:
    """Hold what certificates need of a model, whatever the images.

    Args:
        norm: Norm of the perturbation.
        classifier: The user's model, which is asked again at every claim.
        network: The encoder's steps in float64.
        fast: The same in the type that bounds over balls are computed in.
        bound: The product of its layers' norms.
        weight: (K, d) rows of the head, float64.
        bias: (K,) offsets.
        on_sphere: Whether the head sees h / |h|.
        weights: Hash of the model's numbers (see `network_hash`).
    """

    norm: Norm
    classifier: Classifier
    network: Network
    fast: Network
    bound: NetworkNorm
    weight: Tensor
    bias: Tensor
    on_sphere: bool
    weights: str


@dataclass(frozen=True, eq=False)
class Problem:
    """State when the predicted class keeps ahead of each class j, in terms of h alone.

    It does inside a ball if directions_j . h + constants_j - bends_j q^2 / (2 s) > 0 there, where
    q bounds the distance that h moves and s is at least `size` - q > 0. On the sphere with an
    offset c the condition is a.h + c |h| > 0, and with u = h(x) / |h(x)|, |h| >= u.h serves for
    c > 0 and |h| <= u.h + q^2 / (2 u.h) for c < 0; so directions are a + c u, and bends max(-c, 0).

    Args:
        traced: The model.
        images: (B, C, H, W) float64.
        center: Enclosures of all values at the images, in the type of `fast`.
        predicted: (B,) classes.
        pair: a_j and c_j.
        directions: (B, K, d).
        constants: (B, K).
        bends: (B, K).
        margins: (B, K) lower bounds of the left side at the image itself.
        unit: (B, d) u.
        size: (B,) lower bounds of u.h(x).
        drift: (B,) by how much the computed h(x) may differ from the true one.
    """

    traced: Traced
    images: Tensor
    center: Sequence[Region]
    predicted: Tensor
    pair: Pairs
    directions: Tensor
    constants: Tensor
    bends: Tensor
    margins: Tensor
    unit: Tensor
    size: Tensor
    drift: Tensor

    def bent(self, reach: Tensor, rows: Tensor, along: Tensor | None = None) -> Tensor:
        """Evaluate bends q^2 / (2 s).

        Args:
            reach: (R,) bounds of the distance that h moves over a ball.
            rows: (R,) the images whose balls these are.
            along: (R,) lower bounds of u.h over the balls, where they are known.

        Returns:
            (R, K), inf where h could reach the origin.
        """
        moved = (reach + self.drift[rows]) * round_up(1.0)
        left, bends = (self.size[rows] - moved)[:, None], self.bends[rows]
        if along is not None:
            left = torch.maximum(left, along[:, None] / round_up(1.0))
        bent = bends * (moved**2)[:, None] / (2.0 * left) * round_up(1.0)
        return torch.where(left > 0, bent, torch.where(bends > 0, torch.inf, 0.0))


def traced(classifier: Classifier, *, norm: Norm, method: str) -> Traced:
    """Trace a model once, for any number of images.

    Args:
        classifier: A classifier with a prototype, linear or identity head.
        norm: 'l2' or 'linf'.
        method: Who asks, for messages. A head that is not affine, and a network without known
            norms, are refused.

    Returns:
        The traced model.
    """
    exact = own_model(classifier)
    refuse_views(classifier, method=method)
    weight, bias = affine_head(classifier, method=method)
    _check_head(exact, weight, bias)
    with one_thread():
        network = trace(classifier.encoder, drops_normalization=classifier.normalizes)
        bound = traced_norm(network, norm=check_norm(norm))
    fast = network.remade(_fast_type(network))
    weights = network_hash(classifier)
    return Traced(
        norm, classifier, network, fast, bound, weight, bias, classifier.normalizes, weights
    )


def _check_head(exact: Classifier, weight: Tensor, bias: Tensor) -> None:
    # Whether the head computes W f + b, on embeddings of several sizes.
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(HEAD_POINTS, weight.shape[1], generator=generator, dtype=torch.float64)
    points = torch.cat([draws * scale for scale in (0.1, 1.0, 10.0, 1e3)]).to(weight.device)
    with torch.inference_mode(False), torch.no_grad():
        state = state_of(exact.head)
        found, wanted = exact.head(points.clone()), points @ weight.T + bias
        check_still(exact.head, state)
        check_values(exact.head, points)
    sizes = row_lengths(weight)[None] * row_lengths(points)[:, None] + bias.abs()
    if found.shape != wanted.shape or not bool(((found - wanted).abs() <= 1e-9 * sizes).all()):
        raise UnsupportedError(
            f"the head {type(exact.head).__name__} does not compute what its affine() says; "
            "smoothing:form=vote certifies any classifier"
        )


def ready(
    classifier: Classifier, *, norm: Norm, method: str, prepared: Traced | None = None
) -> Traced:
    """Return a traced model that may be used for a norm.

    Args:
        classifier: The model.
        norm: Norm of the perturbation.
        method: Who asks, for messages.
        prepared: From `traced`; None to trace now.

    Returns:
        The traced model.

    Raises:
        InputError: When it was prepared for another norm, or the model's numbers have changed.
    """
    if prepared is None:
        return traced(classifier, norm=norm, method=method)
    if not isinstance(prepared, Traced):
        raise InputError(f"prepared is a {type(prepared).__name__}; give what `traced` returns")
    if prepared.norm != norm:
        raise InputError(f"the model was prepared for {prepared.norm}, not {norm}; prepare again")
    own_model(classifier)
    if prepared.weights != network_hash(classifier):
        raise InputError("prepared is of a model with other numbers; prepare this one again")
    if prepared.fast.dtype != torch.float64 and _fast_type(prepared.network) == torch.float64:
        prepared = replace(prepared, fast=prepared.network)  # products are rounded further by now
    return replace(prepared, classifier=classifier)


def refuse_views(classifier: Classifier, *, method: str) -> None:
    """Refuse a multi-view model, whose encoder alone is another model.

    Args:
        classifier: The model.
        method: Who asks, for the message.

    Raises:
        UnsupportedError: When it has several views.
    """
    if isinstance(classifier, MultiView | RandomViews):
        raise UnsupportedError(
            f"{method} is about one view, not a multi-view model; use multi_view, or "
            "smoothing:form=vote"
        )


def _fast_type(network: Network) -> torch.dtype:
    # On a CPU convolutions run about twenty times as fast in float32, whole bounds 1.4 times; what
    # its rounding costs was measured to be 2 % of the radius, so it is for large networks only.
    sizes = [math.prod(step.shape) for step in network.steps[2:] if len(step.shape) == 3]
    is_cheap = max(sizes, default=0) < CHEAP or network.device.type != "cpu"
    # Products that are rounded to bfloat16 or TF32 would void what is counted as rounding.
    mkldnn = torch.backends.mkldnn
    settings = (torch.backends, getattr(mkldnn, "conv", None), getattr(mkldnn, "matmul", None))
    lowered = {getattr(place, "fp32_precision", "none") for place in settings} - {"none", "ieee"}
    if is_cheap or lowered or torch.get_float32_matmul_precision() != "highest":
        return torch.float64
    return torch.float32


def image_by_image(model: Traced, images: Tensor, claim: Callable[[Problem], Claim]) -> Claim:
    """Certify every image by itself, so that no verdict depends on the others.

    The predicted class is the model's own, in float64. At the images, alone and in a batch, and at
    points of the certified balls, the model's scores must lie in the enclosures.

    Args:
        model: From `ready`.
        images: (B, C, H, W) in [0, 1].
        claim: The certificate of one image.

    Returns:
        The claim about all images; abstained where the model's scores are not finite.
    """
    points = prepared_images(model.network, images)
    with torch.inference_mode(False), torch.no_grad():
        exact = own_model(model.classifier)
        with one_thread():
            singly = alone(exact, points)
        known = torch.isfinite(singly).all(dim=1)
        predicted = singly.nan_to_num(nan=-torch.inf).argmax(dim=1)

        def certify(row: int) -> tuple[Claim, Tensor, Tensor]:
            one = slice(row, row + 1)
            point = centered(model, points[one])
            return claim(stated(model, point, predicted[one])), *_scores(model, point)

        parts = each(certify, range(len(points)), workers=workers(model.network))
        claims, middle, allowed = zip(*parts, strict=True)
        found = joined(claims)
        found = replace(
            found,
            predicted=torch.where(known, found.predicted, ABSTAINED),
            radius=torch.where(known, found.radius, 0.0),
            rival=torch.where(known, found.rival, NO_RIVAL),
        )
        with one_thread() if workers(model.network) == 1 else nullcontext():
            check_claim(
                exact,
                partial(enclosed_scores, model),
                points,
                singly,
                (torch.cat(middle), torch.cat(allowed)),
                found,
            )
    return found


def compare_model(model: Traced, classifier: Classifier, points: Tensor) -> None:
    """Refuse a model whose float64 scores, alone or in a batch, lie outside of the enclosures.

    Args:
        model: From `traced`.
        classifier: The user's model.
        points: (N, C, H, W), in or out of [0, 1].
    """
    with torch.inference_mode(False), torch.no_grad():
        exact = own_model(classifier)
        for part in points.detach().double().to(model.network.device).split(TOGETHER):
            check_agreement(exact, partial(enclosed_scores, model), part)


def workers(network: Network) -> int:
    """Say how many images are treated at a time.

    Args:
        network: The steps.

    Returns:
        torch's number of threads for large networks on a CPU, else 1.
    """
    is_large = network.size >= LARGE and network.device.type == "cpu"
    return spare_threads() if is_large else 1


def prepared_images(network: Network, images: Tensor) -> Tensor:
    """Check images and bring them to the network's device in float64.

    Args:
        network: The steps.
        images: (B, C, H, W) in [0, 1].

    Returns:
        The images.
    """
    channels, height, width = network.steps[0].shape
    checked = check_images(images, (channels, height, width))
    with torch.inference_mode(False):
        return checked.detach().double().to(network.device)


def enclosed_scores(model: Traced, points: Tensor) -> tuple[Tensor, Tensor]:
    """Enclose the scores of the network that bounds are about.

    Args:
        model: From `ready`.
        points: (N, C, H, W) float64.

    Returns:
        (N, K) scores and the (N, K) differences that are allowed (see `lowered_scores`).
    """
    # A few at a time, as all values of a network are held.
    parts = points.split(max(1, NUMBERS // model.network.size))
    found = each(
        lambda part: _scores(model, centered(model, part)), parts, workers=workers(model.network)
    )
    middle, allowed = zip(*found, strict=True)
    return torch.cat(middle), torch.cat(allowed)


def _scores(model: Traced, point: "Center") -> tuple[Tensor, Tensor]:
    raw, drift = point.raw, point.drift
    return lowered_scores(raw, drift, model.weight, model.bias, on_sphere=model.on_sphere)


def problem(model: Traced, images: Tensor, predicted: Tensor | None = None) -> Problem:
    """State what is to be proved.

    Args:
        model: From `ready`.
        images: (B, C, H, W) float64 on the network's device.
        predicted: (B,) the model's own classes; None to ask it.

    Returns:
        The problem.
    """
    with torch.no_grad():
        if predicted is not None:
            return stated(model, centered(model, images), predicted)
        images = prepared_images(model.network, images)
        own = own_model(model.classifier)(images).argmax(dim=1)
        return stated(model, centered(model, images), own)


@dataclass(frozen=True, eq=False)
class Center:
    """Hold what is computed at the images themselves.

    Args:
        images: (B, C, H, W) float64.
        regions: Enclosures of all values of the network.
        raw: (B, d) the raw embedding h.
        drift: (B,) by how much the computed h may differ from the true one, and twice what h may
            leap anywhere (see `NetworkNorm.leap`).
    """

    images: Tensor
    regions: Sequence[Region]
    raw: Tensor
    drift: Tensor


def centered(model: Traced, images: Tensor) -> Center:
    """Evaluate the network with a bound of its rounding.

    Args:
        model: From `traced`.
        images: (B, C, H, W) float64 on the network's device.

    Returns:
        The values.
    """
    return enclosed(model.network, model.bound.leap, images)


def enclosed(network: Network, leap: float, images: Tensor) -> Center:
    """Evaluate a network with a bound of its rounding.

    Args:
        network: The steps.
        leap: What h may leap anywhere.
        images: (B, C, H, W) float64 on the network's device.

    Returns:
        The values.
    """
    regions = center_regions(network, images)
    end = regions[-1]
    drift = length(end.high - end.low) * round_up(1.0) + 2.0 * leap
    drift = drift.nan_to_num(nan=torch.inf)
    return Center(images, regions, (end.low + end.high) / 2.0, drift)


def _lengths(raw: Tensor) -> Tensor:
    return row_lengths(raw)[:, None]


def stated(model: Traced, point: Center, predicted: Tensor) -> Problem:
    """State what is to be proved for a predicted class.

    Args:
        model: From `traced`.
        point: From `centered`, or with another h as long as it moves no more than the model's bound
            says.
        predicted: (B,) classes.

    Returns:
        The problem.
    """
    pair, raw, drift = pairs(model.weight, model.bias, predicted), point.raw, point.drift
    unit = raw / _lengths(raw).clamp_min(1e-300)
    if model.on_sphere:
        directions = pair.directions + pair.offsets[:, :, None] * unit[:, None]
        constants, bends = torch.zeros_like(pair.offsets), (-pair.offsets).clamp_min(0.0)
    else:
        directions, constants, bends = pair.directions, pair.offsets, torch.zeros_like(pair.offsets)
    # u is a unit vector up to rounding: what that changes is below 4 u (|a| + |c|) |h|.
    sizes = row_lengths(pair.directions) + pair.offsets.abs()
    size = _lengths(raw)[:, 0]
    terms = (raw.shape[1] + 32) * 2.0 * UNITS[torch.float64]
    slack = terms * (sizes * (size + drift)[:, None] + constants.abs()) + sizes * drift[:, None]
    margins = torch.einsum("bkd,bd->bk", directions, raw) + constants - slack
    return Problem(
        traced=model,
        images=point.images,
        center=in_type(point.regions, model.fast.dtype),
        predicted=predicted,
        pair=pair,
        directions=directions,
        constants=constants,
        bends=bends,
        margins=margins,
        unit=unit,
        size=size * (1.0 - terms) - drift,
        drift=drift,
    )
