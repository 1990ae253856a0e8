"""State what an adversary may do: a norm, a budget and a pixel box."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcl.core.choices import NORMS, Norm
from robustcl.core.errors import InputError

ORDERS: dict[Norm, float] = {"l2": 2.0, "linf": torch.inf, "l1": 1.0}
DUAL_ORDERS: dict[Norm, float] = {"l2": 2.0, "linf": 1.0, "l1": torch.inf}


def check_norm(norm: str) -> Norm:
    """Return the norm when it is known.

    Args:
        norm: 'l2', 'linf' or 'l1'.

    Returns:
        The same norm.

    Raises:
        InputError: When it is another.
    """
    for known in NORMS:
        if norm == known:
            return known
    raise InputError(f"unknown norm {norm!r}; use {', '.join(NORMS)}")


def perturbation_norm(delta: Tensor, norm: Norm) -> Tensor:
    """Measure each perturbation in float64.

    Args:
        delta: (B, ...) perturbations in pixel units.
        norm: 'l2', 'linf' or 'l1'.

    Returns:
        (B,) float64 norms.
    """
    flat = delta.detach().double().flatten(1)
    return torch.linalg.vector_norm(flat, ORDERS[check_norm(norm)], dim=1)


@dataclass(frozen=True, eq=False)
class Threat:
    """State the set of images an adversary may choose from: a ball, cut by the pixel box.

    Args:
        norm: 'l2', 'linf' or 'l1'.
        eps: Budget in pixel units, one number or one per image, (B,).
        box: Lowest and highest pixel value; None for no box.

    Raises:
        InputError: When the norm is unknown, or a budget is negative or not finite.
    """

    norm: Norm
    eps: float | Tensor
    box: tuple[float, float] | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_norm(self.norm)
        eps = torch.as_tensor(self.eps)
        if not bool(torch.isfinite(eps).all()) or bool((eps < 0).any()):
            raise InputError(f"eps {self.eps!r} is negative or not finite; use a radius >= 0")
        if self.box is not None and not self.box[0] < self.box[1]:
            raise InputError(f"box {self.box} is empty; use (lowest, highest)")

    def radii(self, images: Tensor) -> Tensor:
        """Return one budget per image.

        Args:
            images: (B, ...) images.

        Returns:
            (B,) budgets of the images' type, on their device.

        Raises:
            InputError: When there are as many budgets as neither 1 nor B.
        """
        eps = torch.as_tensor(self.eps, dtype=images.dtype, device=images.device)
        if eps.ndim and eps.shape != (len(images),):
            raise InputError(f"{len(images)} images have eps of shape {tuple(eps.shape)}")
        return eps.expand(len(images))

    def project(self, images: Tensor, candidates: Tensor) -> Tensor:
        """Return the candidates moved into the ball and the box.

        In Linf and L1 it is the nearest point that is in both. In L2 the box comes after the ball:
        with the images in the box, cutting by it cannot leave the ball. Rounding x + v can: near 1
        a float32 pixel is 6e-8 wide, which is more than a millionth of a budget below 0.06. What
        lies beyond the budget after rounding is therefore moved inwards.

        Args:
            images: (B, ...) clean images.
            candidates: (B, ...) wished-for images.

        Returns:
            (B, ...) allowed images.
        """
        radii = self.radii(images).view(-1, *[1] * (images.ndim - 1))
        if self.norm == "l1":
            return project_l1(images, candidates, self.radii(images), self.box)
        delta = candidates - images
        if self.norm == "linf":
            delta = torch.minimum(torch.maximum(delta, -radii), radii)
        else:
            norms = torch.linalg.vector_norm(delta.flatten(1), dim=1).view_as(radii)
            delta = delta * (radii / norms.clamp_min(1e-30)).clamp(max=1.0)
        moved = images + delta
        moved = moved if self.box is None else moved.clamp(*self.box)
        if self.norm == "linf":
            beyond = (moved - images).abs() > radii
            return torch.where(beyond, torch.nextafter(moved, images), moved)
        norms = torch.linalg.vector_norm((moved - images).flatten(1), dim=1).view_as(radii)
        width = torch.finfo(images.dtype).eps * images.abs().flatten(1).amax(dim=1).view_as(radii)
        # Rounding once more changes a norm by a fraction of a pixel's width.
        inside = (radii - 2.0 * width).clamp_min(0.0) / norms.clamp_min(1e-30)
        return torch.where(norms > radii, images + inside * (moved - images), moved)

    def select(self, rows: Tensor) -> "Threat":
        """Return the threat for a subset of the images.

        Args:
            rows: Positions or a mask.

        Returns:
            The same threat with the budgets of those images.
        """
        if isinstance(self.eps, Tensor) and self.eps.ndim:
            return replace(self, eps=self.eps[rows.to(self.eps.device)])
        return self


def project_l1(
    images: Tensor, candidates: Tensor, radii: Tensor, box: tuple[float, float] | None
) -> Tensor:
    """Return the points of the ball and the box that are nearest to the candidates in L2.

    Each pixel moves towards the candidate by min(max(|d_i| - s, 0), room_i), where room is the way
    to the edge of the box and s >= 0 is the least number for which the moves add up to the radius
    at most. Their sum falls linearly between the kinks |d_i| and |d_i| - room_i, so s is found by
    sorting these, exactly up to rounding in float64. Projecting onto the ball and then cutting by
    the box would leave budget unused.

    Args:
        images: (B, ...) centers, in the box.
        candidates: (B, ...) wished-for images.
        radii: (B,) budgets.
        box: Lowest and highest pixel value; None for no box.

    Returns:
        (B, ...) images, whose distance is within the radius after rounding too.

    Reference:
        Croce and Hein, Mind the Box: l1-APGD for Sparse Adversarial Attacks on Image Classifiers,
        ICML 2021, proposition 2.1.
    """
    start = images.flatten(1).double()
    delta = candidates.flatten(1).double() - start
    size = delta.abs()
    room = torch.full_like(size, torch.inf)
    if box is not None:
        room = torch.where(delta > 0, box[1] - start, start - box[0]).clamp_min(0.0)
    budget = radii.double()[:, None]
    moves = torch.minimum((size - _threshold(size, room, budget)).clamp_min(0.0), room)
    moved = (start + delta.sign() * moves).to(images.dtype)
    if box is not None:
        moved = moved.clamp(*box)
    # Rounding must not add up to more than the budget: no pixel may move farther than it should.
    distance = (moved.double() - start).abs()
    over = (distance.sum(dim=1, keepdim=True) > budget) & (distance > moves)
    moved = torch.where(over, torch.nextafter(moved, images.flatten(1)), moved)
    return moved.view_as(images)


def _threshold(size: Tensor, room: Tensor, budget: Tensor) -> Tensor:
    # (B, 1) the least s >= 0 with sum_i min(max(size_i - s, 0), room_i) <= budget. From the largest
    # kink downwards, a pixel begins to move at size_i and comes to a halt at size_i - room_i.
    kinks = torch.cat([size, (size - room).clamp_min(0.0)], dim=1)
    kinks, order = kinks.sort(dim=1, descending=True)
    moving = torch.where(order < size.shape[1], 1.0, -1.0).to(size).cumsum(dim=1)
    gained = moving[:, :-1] * (kinks[:, :-1] - kinks[:, 1:])
    total = torch.nn.functional.pad(gained.cumsum(dim=1), (1, 0))
    beyond = total > budget
    first = beyond.double().argmax(dim=1, keepdim=True).clamp_min(1)
    before = first - 1
    speed = moving.gather(1, before).clamp_min(1.0)
    least = kinks.gather(1, before) - (budget - total.gather(1, before)) / speed
    return torch.where(beyond.any(dim=1, keepdim=True), least.clamp_min(0.0), 0.0)
