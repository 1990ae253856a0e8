"""Attack smoothed models: every gradient is one of a mean over noisy copies.

The subjects answer by a mean over noise that nobody can compute, so the attacks raise stand-ins for
it: the mean over fixed draws (`pgd`, `surface`, `nearest`), over draws that are new at every step
(`eot`), or the subject's own mean, votes and clips included, by the score function (`stein`).
All of them end on the sphere or in the ball they are given; there is no pixel box, since the
certificates have none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from robustcl import attacks
from robustcl.certify.smoothed_margins import Smoothed
from robustcl.core.classifier import Classifier
from robustcl.core.objectives import Objective
from robustcl.core.seeds import example_noise
from robustcl.core.threat import Threat

SHARPNESS = 0.05  # temperature of the votes that gradients see, for cosines as scores
SOFTEST = 0.1  # t below which gradients see a softer clip
MOMENTUM, EOT_STEPS, EOT_DRAWS = 0.75, 24, 64
STEIN_STEPS, STEIN_PAIRS = 8, 256
BEYOND = 3.0  # radii within which `nearest` looks for a direction
ROWS = 4096  # noisy copies per model call


@dataclass(frozen=True, eq=False)
class Target:
    """State what is attacked, where, and how far an attack may go.

    Args:
        classifier: The base classifier, frozen.
        terms: Its smoothed model.
        images: (B, C, H, W).
        tops: (B,) classes that are to be left.
        radii: (B,) L2 budgets.
        seeds: One per image.
    """

    classifier: Classifier
    terms: Smoothed
    images: Tensor
    tops: Tensor
    radii: Tensor
    seeds: list[int]

    @property
    def threat(self) -> Threat:
        """The ball."""
        return Threat("l2", self.radii, box=None)


def leads(target: Target, scores: Tensor, tops: Tensor, *, smooth: bool) -> Tensor:
    """Say by how much each class leads on noisy copies, in the terms whose mean decides.

    Args:
        target: What is attacked.
        scores: (R, K) scores of the base classifier.
        tops: (R,) classes that are to be left.
        smooth: Whether votes and clips are made smooth, for gradients.

    Returns:
        (R, K); the class to be left has -inf.
    """
    terms = target.terms
    own = functional.one_hot(tops, terms.classes).bool()
    if terms.form == "vote":
        shares = (
            torch.softmax(scores / SHARPNESS, dim=1)
            if smooth
            else functional.one_hot(scores.argmax(dim=1), terms.classes).to(scores)
        )
        found = shares - shares.gather(1, tops[:, None])
    else:
        found = scores - scores.gather(1, tops[:, None])
    if terms.form == "clip":
        weight, bias = (torch.from_numpy(part).to(scores) for part in (terms.weight, terms.bias))
        lengths = torch.linalg.vector_norm(weight[tops][:, None] - weight, dim=2)
        scale = (lengths + (bias[tops][:, None] - bias).abs()).clamp_min(1e-12)
        found = (
            torch.tanh(found / (max(terms.clip, SOFTEST) * scale))
            if smooth
            else (found / (terms.clip * scale)).clamp(-1.0, 1.0)
        )
    return found.masked_fill(own, -torch.inf)


def mean_leads(
    target: Target, points: Tensor, noise: Tensor, tops: Tensor, *, smooth: bool = True
) -> Tensor:
    """Average the leads over noisy copies.

    Args:
        target: What is attacked.
        points: (R, C, H, W).
        noise: (R or 1, M, C, H, W), of unit variance.
        tops: (R,) classes that are to be left.
        smooth: As in `leads`.

    Returns:
        (R, K).
    """
    copies = points[:, None] + target.terms.sigma * noise
    count = copies.shape[1]
    scores = torch.cat([target.classifier(x) for x in copies.flatten(0, 1).split(ROWS)])
    found = leads(target, scores, tops.repeat_interleave(count), smooth=smooth)
    return found.unflatten(0, (len(points), count)).mean(dim=1)


def fixed_draws(target: Target, draws: int) -> Objective:
    """Aim at the mean over draws that are the same at every call and for every image.

    Args:
        target: What is attacked.
        draws: Noisy copies.

    Returns:
        The objective.
    """
    generator = torch.Generator().manual_seed(target.seeds[0])
    noise = torch.randn(1, draws, *target.images.shape[1:], generator=generator)

    def aim(rows: Tensor) -> Callable[[Tensor], Tensor]:
        tops = target.tops[rows]
        return lambda points: mean_leads(target, points, noise, tops).amax(dim=1)

    return Objective(aim(torch.arange(len(target.tops))), aim=aim, evaluations=draws)


def pgd(target: Target, *, draws: int = 64, beyond: float = 1.0) -> Tensor:
    """Ascend the mean over fixed draws, from the image and from a random point.

    Args:
        target: What is attacked.
        draws: Noisy copies.
        beyond: Size of the ball, in radii.

    Returns:
        (B, C, H, W) points.
    """
    threat = Threat("l2", beyond * target.radii, box=None)
    objective = fixed_draws(target, draws)
    return attacks.pgd(objective, target.images, threat, steps=20, seeds=target.seeds).candidates


def surface(target: Target, *, draws: int = 32) -> Tensor:
    """Climb the mean over fixed draws from points on the sphere.

    Args:
        target: What is attacked.
        draws: Noisy copies.

    Returns:
        (B, C, H, W) points.
    """
    objective = fixed_draws(target, draws)
    return attacks.surface(
        objective, target.images, target.threat, steps=10, starts_toward=1, starts_random=3,
        seeds=target.seeds,
    ).candidates  # fmt: skip


def nearest(target: Target, *, draws: int = 32) -> Tensor:
    """Look beyond the ball for the nearest boundary of the mean over fixed draws.

    Args:
        target: What is attacked.
        draws: Noisy copies.

    Returns:
        (B, C, H, W) points on the sphere in that direction; where no boundary was found, in that
        of the highest margin.
    """
    threat = Threat("l2", BEYOND * target.radii, box=None)
    objective = fixed_draws(target, draws)
    found = attacks.ddn(objective, target.images, threat, steps=30, restarts=1).candidates
    none = (found == target.images).flatten(1).all(dim=1)
    if bool(none.any()):
        far = pgd(target, draws=draws, beyond=BEYOND)
        found = torch.where(none.view(-1, 1, 1, 1), far, found)
    return on_sphere(target, found - target.images)


def eot(target: Target) -> Tensor:
    """Ascend with momentum the mean over draws that are new at every step.

    Args:
        target: What is attacked.

    Returns:
        (B, C, H, W) points on the sphere.
    """

    def gradient(points: Tensor, generator: torch.Generator) -> Tensor:
        shape = (len(points), EOT_DRAWS, *points.shape[1:])
        noise = torch.randn(shape, generator=generator)
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            value = mean_leads(target, points, noise, target.tops).amax(dim=1)
            return torch.autograd.grad(value.sum(), points)[0]

    return _climb(target, gradient, EOT_STEPS, 2.5 / EOT_STEPS)


def stein(target: Target) -> Tensor:
    """Ascend the subject's own mean, by E[lead(x + e) e] / sigma^2 over pairs e and -e.

    Nothing is made smooth, and the base classifier's gradients are not used.

    Args:
        target: What is attacked.

    Returns:
        (B, C, H, W) points on the sphere.
    """

    def gradient(points: Tensor, generator: torch.Generator) -> Tensor:
        shape = (len(points), STEIN_PAIRS, *points.shape[1:])
        noise = torch.randn(shape, generator=generator)
        with torch.no_grad():
            sides = [
                _each(target, points, sign * noise).flatten(0, 1).clamp_min(-10.0)
                for sign in (1.0, -1.0)
            ]
        both = [side.unflatten(0, shape[:2]) for side in sides]
        rival = (both[0] + both[1]).mean(dim=1).argmax(dim=1)
        chosen = [
            side.gather(2, rival[:, None, None].expand(-1, STEIN_PAIRS, 1))[..., 0]
            for side in both
        ]  # fmt: skip
        return torch.einsum("bm,bm...->b...", chosen[0] - chosen[1], noise)

    return _climb(target, gradient, STEIN_STEPS, 0.4)


def _each(target: Target, points: Tensor, noise: Tensor) -> Tensor:
    # Leads of every copy, (R, M, K), without making anything smooth.
    rows, count = noise.shape[:2]
    wide = points.repeat_interleave(count, dim=0)
    tops = target.tops.repeat_interleave(count)
    return mean_leads(
        target, wide, noise.flatten(0, 1)[:, None], tops, smooth=False
    ).unflatten(0, (rows, count))  # fmt: skip


def _climb(
    target: Target,
    gradient: Callable[[Tensor, torch.Generator], Tensor],
    steps: int,
    share: float,
) -> Tensor:
    generator = torch.Generator().manual_seed(target.seeds[0])
    # A start off the image: at the image itself votes may be unanimous and gradients 0.
    points = on_sphere(target, example_noise(target.seeds, target.images.shape[1:]), 0.1)
    velocity = torch.zeros_like(points)
    radii = target.radii.to(points).view(-1, 1, 1, 1)
    for step in range(steps):
        slope = functional.normalize(gradient(points, generator).flatten(1), dim=1)
        velocity = MOMENTUM * velocity + slope.view_as(points)
        way = functional.normalize(velocity.flatten(1), dim=1).view_as(points)
        moved = points + share * (1.0 - step / (2.0 * steps)) * radii * way
        points = target.threat.project(target.images, moved)
    return on_sphere(target, points - target.images)


def on_sphere(target: Target, delta: Tensor, share: float = 1.0) -> Tensor:
    """Scale perturbations to the budget.

    Args:
        target: What is attacked.
        delta: (B, C, H, W) directions.
        share: Of the budget.

    Returns:
        (B, C, H, W) points.
    """
    ways = functional.normalize(delta.flatten(1), dim=1).view_as(delta)
    moved = target.images + share * target.radii.to(delta).view(-1, 1, 1, 1) * ways
    return target.threat.project(target.images, moved)


ATTACKS: dict[str, Callable[[Target], Tensor]] = {
    "pgd": partial(pgd),
    "surface": partial(surface),
    "nearest": partial(nearest),
    "eot": eot,
    "stein": stein,
}
