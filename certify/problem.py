"""State, per image and rival, what deterministic certificates have to prove."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from certify.bounds.dense_norm import round_up
from certify.bounds.network_norm import NetworkNorm, traced_norm
from certify.bounds.regions import Region, center_regions, in_type
from certify.bounds.rounding import UNITS
from certify.bounds.trace import Network, trace
from certify.claim import Claim, joined
from certify.norms import Norm, check_norm
from certify.pairs import Pairs, affine_head, pairs
from robustcl.classifier import Classifier
from robustcl.errors import InputError, UnsupportedError
from robustcl.views.multi_view import MultiView
from robustcl.views.random_views import RandomViews

BATCH_NUMBERS = 4_000_000  # numbers inside the network that are enclosed at once
CHEAP = 50_000  # numbers per image inside the network, below which float64 is used everywhere


@dataclass(frozen=True, eq=False)
class Traced:
    """Hold what certificates need of a model, whatever the images.

    Args:
        norm: Norm of the perturbation.
        network: The encoder's steps in float64.
        fast: The same in the type that bounds over balls are computed in.
        bound: The product of its layers' norms.
        weight: (K, d) rows of the head, float64.
        bias: (K,) offsets.
        on_sphere: Whether the head sees h / |h|.
    """

    norm: Norm
    network: Network
    fast: Network
    bound: NetworkNorm
    weight: Tensor
    bias: Tensor
    on_sphere: bool


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
    refuse_views(classifier, method=method)
    weight, bias = affine_head(classifier, method=method)
    network = trace(classifier.encoder, drops_normalization=classifier.normalizes)
    bound = traced_norm(network, norm=check_norm(norm))
    fast = network.remade(_fast_type(network))
    return Traced(norm, network, fast, bound, weight, bias, classifier.normalizes)


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


def in_batches(model: Traced, images: Tensor, claim: Callable[[Problem], Claim]) -> Claim:
    """Certify some images at a time, so that memory does not grow with their number.

    Args:
        model: From `traced`.
        images: (B, C, H, W).
        claim: The certificate.

    Returns:
        The claim about all images.

    Raises:
        InputError: When there is no image.
    """
    if not len(images):
        raise InputError("there are no images; give at least one")
    size = max(1, BATCH_NUMBERS // model.network.size)
    with torch.no_grad():
        return joined([claim(problem(model, part)) for part in images.split(size)])


def problem(model: Traced, images: Tensor) -> Problem:
    """Predict the classes and state what is to be proved.

    Args:
        model: From `traced`.
        images: (B, C, H, W).

    Returns:
        The problem.

    Raises:
        InputError: When the images are of another shape than the network takes, or not finite.
    """
    shape = model.network.steps[0].shape
    if tuple(images.shape[1:]) != shape:
        raise InputError(
            f"images of shape {tuple(images.shape[1:])} (C, H, W) but the encoder takes {shape}; "
            "resize, or convert with --input-size"
        )
    if not bool(torch.isfinite(images).all()):
        raise InputError("an image is not finite; nothing can be certified about it")
    images = images.detach().double().to(model.network.device)
    with torch.no_grad():
        point = centered(model, images)
        unit = point.raw / _lengths(point.raw).clamp_min(1e-300)
        seen = unit if model.on_sphere else point.raw
        predicted = (seen @ model.weight.T + model.bias).argmax(dim=1)
        return stated(model, point, predicted)


@dataclass(frozen=True, eq=False)
class Center:
    """Hold what is computed at the images themselves.

    Args:
        images: (B, C, H, W) float64.
        regions: Enclosures of all values of the network.
        raw: (B, d) the raw embedding h.
        drift: (B,) by how much the computed h may differ from the true one.
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
    regions = center_regions(model.network, images)
    end = regions[-1]
    drift = torch.linalg.vector_norm(end.high - end.low, dim=1) * round_up(1.0)
    return Center(images, regions, (end.low + end.high) / 2.0, drift)


def _lengths(raw: Tensor) -> Tensor:
    return torch.linalg.vector_norm(raw, dim=1, keepdim=True)


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
    sizes = torch.linalg.vector_norm(pair.directions, dim=2) + pair.offsets.abs()
    length = _lengths(raw)[:, 0]
    terms = (raw.shape[1] + 32) * 2.0 * UNITS[torch.float64]
    slack = terms * (sizes * (length + drift)[:, None] + constants.abs()) + sizes * drift[:, None]
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
        size=length * (1.0 - terms) - drift,
        drift=drift,
    )
