"""Penalize how fast the embedding changes, by a finite difference along one direction."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from robustcl.core.choices import Norm
from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError
from robustcl.training.losses.similarities import unit
from robustcl.training.robust.inner_attack import check_training_norm
from robustcl.training.robust.method import RobustMethod
from robustcl.training.robust.views_step import Losses, ViewsStep

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
DIRECTIONS = ("batch", "random")


@dataclass(frozen=True, kw_only=True)
class GradientPenalty(RobustMethod):
    """State a finite-difference penalty on the encoder's gradient.

    Args:
        weight: Its factor in the loss.
        norm: Norm of the threat, 'l2' or 'linf', in which the direction has length 1.
        direction: 'batch': the steepest direction of the loss in use, each image's own; 'random':
            one draw per image, scaled so that squared slopes have the mean |J|_F^2.
        h: Step along the direction, in pixel units of the norm.
        squared: Whether the square of the slope is penalized, or the slope itself.
        normalized: Whether the slope is that of z = u / |u|, or of the raw embedding u.

    Raises:
        InputError: When a value is not usable.

    Reference:
        Finlay and Oberman, Scaleable Input Gradient Regularization for Adversarial Robustness,
        2019, section 4, applied to the embedding.
    """

    weight: float = 0.1
    norm: str = "l2"
    direction: str = "batch"
    h: float = 0.01
    squared: bool = True
    normalized: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < math.inf:
            raise InputError(
                f"weight {self.weight} of penalty is not positive and finite; try 0.1, or train "
                "without --robust"
            )
        check_training_norm(self.norm)
        if self.direction not in DIRECTIONS:
            raise InputError(
                f"unknown direction {self.direction!r} of penalty; use {' or '.join(DIRECTIONS)}"
            )
        if not 0.0 < self.h < math.inf:
            raise InputError(f"step h {self.h} of penalty is not positive and finite; try 0.01")

    @override
    def check_encoder(self, encoder: Encoder) -> None:
        check_penalty_network(encoder)

    @override
    def loss(self, step: ViewsStep) -> Losses:
        return penalized_loss(self, step)


def penalized_loss(method: GradientPenalty, step: ViewsStep) -> Losses:
    """Compute the loss in use + weight x penalty.

    Cost beside the loss alone: one more forward pass and its backward pass; for the batch direction
    also a backward pass to the images, without weights.

    Args:
        method: The options.
        step: One batch.

    Returns:
        The loss, and its parts: those of the loss in use, and 'penalty'.
    """
    needs_slope, scale = method.direction == "batch", 1.0
    views = step.views.detach().requires_grad_(needs_slope)
    embeddings = step.encode(views)
    loss, parts = step.losses(embeddings, remembers=True)
    if needs_slope:
        (slope,) = torch.autograd.grad(loss, views, retain_graph=True)
        directions = steepest_slopes(slope, norm=check_training_norm(method.norm))
    else:
        directions = random_directions(step.normal(), norm=check_training_norm(method.norm))
        scale = frobenius_scale(step.views, norm=check_training_norm(method.norm))
    penalty = gradient_penalty(
        step.encode,
        step.views,
        directions,
        h=method.h,
        squared=method.squared,
        normalized=method.normalized,
        embeddings=embeddings,
    )
    penalty = penalty * (scale**2 if method.squared else scale)
    return loss + method.weight * penalty, {**parts, "penalty": penalty}


def gradient_penalty(
    encode: Callable[[Tensor], Tensor],
    images: Tensor,
    directions: Tensor,
    *,
    h: float = 0.01,
    squared: bool = True,
    normalized: bool = True,
    embeddings: Tensor | None = None,
) -> Tensor:
    """Compute the mean of |z(x + h d) - z(x)| / h, or of its square, differentiable in the weights.

    As h -> 0 this is |J d|, J the Jacobian of z; no second derivative is taken.

    Args:
        encode: Images to raw embeddings.
        images: (B, C, H, W) x.
        directions: (B, C, H, W) d, without gradient.
        h: Step.
        squared: Whether slopes are squared before the mean.
        normalized: Whether z = u / |u|, or the raw embedding u.
        embeddings: (B, d) u(x) where it is known, with its graph; else it is computed.

    Returns:
        A scalar.
    """
    still = encode(images) if embeddings is None else embeddings
    moved = encode(images + h * directions)
    points = [unit(part) if normalized else part.float() for part in (moved, still)]
    slopes = (points[0] - points[1]) / h
    if squared:
        return slopes.square().sum(dim=1).mean()
    return torch.linalg.vector_norm(slopes, dim=1).mean()


def steepest_slopes(slopes: Tensor, *, norm: Norm) -> Tensor:
    """Return the direction in which each image's loss rises fastest.

    The loss changes along it by the dual norm of its gradient: |g|_2 for L2, |g|_1 for Linf.

    Args:
        slopes: (B, C, H, W) gradients g.
        norm: In which directions have length 1.

    Returns:
        (B, C, H, W) g / |g|_2, or the signs of g; 0 where g is 0.
    """
    if norm == "linf":
        return slopes.sign()
    # By the largest entry first, so that squares of small slopes do not become 0.
    tiny = torch.finfo(slopes.dtype).tiny
    slopes = slopes / slopes.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(tiny)
    lengths = torch.linalg.vector_norm(slopes, dim=(1, 2, 3), keepdim=True)
    return slopes / lengths.clamp_min(tiny)


def random_directions(normal: Tensor, *, norm: Norm) -> Tensor:
    """Turn noise into directions of length 1.

    Args:
        normal: (B, C, H, W) standard normal noise.
        norm: In which directions have length 1.

    Returns:
        (B, C, H, W) signs for Linf, points of the unit sphere for L2.
    """
    return steepest_slopes(normal, norm=norm)


def frobenius_scale(images: Tensor, *, norm: Norm) -> float:
    """Return the factor s with E |s J d|^2 = |J|_F^2 over random directions d.

    Args:
        images: (B, C, H, W); only the shape counts.
        norm: In which directions have length 1.

    Returns:
        1 for Linf; sqrt(D) for L2, D = C H W, as one direction stands for D.

    Reference:
        Hutchinson, A Stochastic Estimator of the Trace of the Influence Matrix, 1990.
    """
    return 1.0 if norm == "linf" else math.sqrt(images[0].numel())


def check_penalty_network(network: nn.Module) -> None:
    """Refuse a network whose output changes from call to call.

    Args:
        network: What is trained.

    Raises:
        InputError: When it has dropout, whose chance a finite difference would divide by h.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, DROPOUT) and layer.p > 0:
            raise InputError(
                f"penalty compares two calls of the network, and {name!r} ({layer}) makes them "
                "differ by chance; remove it, or set its p to 0"
            )
