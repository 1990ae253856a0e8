"""State, per image and other class, what deterministic certificates have to prove."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.certify.agreement import own_model
from robustcl.certify.bounds.preactivation_bounds import center_bounds, in_type
from robustcl.certify.graph import Network
from robustcl.certify.ops.enclosures import Region
from robustcl.certify.pairs import Pairs, pairs
from robustcl.certify.preparation import PreparedModel, prepared_images
from robustcl.certify.rounding import UNITS, length, round_up, row_lengths


@dataclass(frozen=True, eq=False)
class VerificationProblem:
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

    traced: PreparedModel
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


def verification_problem(
    model: PreparedModel, images: Tensor, predicted: Tensor | None = None
) -> VerificationProblem:
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
            return state_problem(model, enclose_images(model, images), predicted)
        images = prepared_images(model.network, images)
        own = own_model(model.classifier)(images).argmax(dim=1)
        return state_problem(model, enclose_images(model, images), own)


@dataclass(frozen=True, eq=False)
class ImageEnclosures:
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


def enclose_images(model: PreparedModel, images: Tensor) -> ImageEnclosures:
    """Evaluate the network with a bound of its rounding.

    Args:
        model: From `traced`.
        images: (B, C, H, W) float64 on the network's device.

    Returns:
        The values.
    """
    return enclosed(model.network, model.bound.leap, images)


def enclosed(network: Network, leap: float, images: Tensor) -> ImageEnclosures:
    """Evaluate a network with a bound of its rounding.

    Args:
        network: The steps.
        leap: What h may leap anywhere.
        images: (B, C, H, W) float64 on the network's device.

    Returns:
        The values.
    """
    regions = center_bounds(network, images)
    end = regions[-1]
    drift = length(end.high - end.low) * round_up(1.0) + 2.0 * leap
    drift = drift.nan_to_num(nan=torch.inf)
    return ImageEnclosures(images, regions, (end.low + end.high) / 2.0, drift)


def _lengths(raw: Tensor) -> Tensor:
    return row_lengths(raw)[:, None]


def state_problem(
    model: PreparedModel, point: ImageEnclosures, predicted: Tensor
) -> VerificationProblem:
    """State what is to be proved for a predicted class.

    Args:
        model: From `traced`.
        point: From `enclose_images`, or with another h as long as it moves no more than the
            model's bound says.
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
    return VerificationProblem(
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
