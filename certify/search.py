"""Search for the largest radius at which lower bounds of all margins are positive."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_NEAREST = 2  # other classes whose margins steer the search, by default
CLOSE = 0.005  # a radius this close to where the margin would vanish, relatively, is good enough
CONFIRMATIONS = 4
POWERS = (1.0, 16.0)

Evaluation = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Curves:
    """Hold what is known of the lower bounds m_j(r) of each image's margins.

    Args:
        start: (B, K) at radius 0.
        slope: (B, K) of the fall there.
        known: (B, K) radii that are proved; infinite for the predicted class.
        failed: (B, K) the smallest radii at which nothing was proved; infinite where none was.
        radius: (2, B, K) the last two radii with finite bounds, the latest last; 0 where none was.
        excess: (2, B, K) start - slope r - m_j(r) there.
    """

    start: Tensor
    slope: Tensor
    known: Tensor
    failed: Tensor
    radius: Tensor
    excess: Tensor

    def roots(self) -> Tensor:
        """Extrapolate where each margin vanishes: start - slope r = a r^p through the points.

        Returns:
            (B, K) radii; with one point p is 2, with none a is 0. Where that cannot be, as a bound
            has failed below, halfway from what is proved to what failed.
        """
        (before, last), (lost, excess) = self.radius, self.excess.clamp_min(1e-300)
        power = (excess / lost).log() / (last / before).log()
        usable = (before > 0) & torch.isfinite(power)
        power = torch.where(usable, power, 2.0).clamp(*POWERS)
        low = torch.zeros_like(last)
        high = self.start / self.slope.clamp_min(1e-300)
        for _ in range(40):
            middle = (low + high) / 2.0
            fall = torch.where(last > 0, excess * (middle / last) ** power, 0.0)
            above = self.start - self.slope * middle > fall
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        halfway = _between(torch.minimum(self.known, self.failed), self.failed)
        return torch.where(low < self.failed, low, halfway)

    def learned(self, rows: Tensor, others: Tensor, trial: Tensor, margins: Tensor) -> "Curves":
        """Add what bounds at one radius per image have shown.

        Args:
            rows: (R,) images.
            others: (R, M) classes.
            trial: (R,) the radius tried.
            margins: (R, M) lower bounds of the margins there.

        Returns:
            The new curves.
        """
        place = (rows[:, None], others)
        trials = trial[:, None].expand_as(margins)
        holds = margins > 0
        known, failed = self.known.clone(), self.failed.clone()
        known[place] = torch.where(holds, torch.maximum(known[place], trials), known[place])
        failed[place] = torch.where(holds, failed[place], torch.minimum(failed[place], trials))
        fall = self.start[place] - self.slope[place] * trials
        points = (trials, (fall - margins).clamp_min(0.0))
        kept = []
        for series, point in zip((self.radius, self.excess), points, strict=True):
            changed = series.clone()
            for turn, value in enumerate((series[1][place], point)):
                changed[turn][place] = torch.where(
                    torch.isfinite(margins), value, series[turn][place]
                )
            kept.append(changed)
        return Curves(self.start, self.slope, known, failed, *kept)


def search(
    evaluate: Evaluation,
    start: Tensor,
    ceiling: Tensor,
    known: Tensor,
    *,
    steps: int,
    first: Tensor | None = None,
    nearest: int = _NEAREST,
) -> Tensor:
    """Raise the smallest radius of each image as far as the bounds prove it.

    All other classes that could be the nearest are tried at one radius. The fall of each margin
    below its tangent is then taken for a power of the radius, which the nearest other classes'
    margins refine until an image's radius is within `CLOSE` of where they vanish. At last the
    other other classes are tried at the radius found, which is lowered where one of them fails.
    Only radii tried count.

    Args:
        evaluate: (R,) images, (R,) radii and (R, M) classes to (R, M) lower bounds of margins.
        start: (B, K) margins at radius 0.
        ceiling: (B, K) radii that no bound exceeds; infinite for the predicted class.
        known: (B, K) radii known already.
        steps: Radii tried per image before the last ones.
        first: (B,) the first radius tried; None for one between what is known and the ceiling.
        nearest: Other classes tried at every radius but the first; all of them where it is the
            radius that costs.

    Returns:
        (B, K) radii inside which class j cannot overtake, at least `known`.
    """
    own = torch.isinf(ceiling)
    start, tops = start.clamp_min(0.0), ceiling.clamp(max=1e100)
    none = torch.zeros(2, *start.shape, dtype=start.dtype, device=start.device)
    slope = torch.where(own, 0.0, start / tops.clamp_min(1e-300))
    failed = torch.full_like(start, torch.inf)
    curves = Curves(start, slope, known.masked_fill(own, torch.inf), failed, none, none)
    low, high = curves.known.amin(dim=1), ceiling.amin(dim=1)
    rows = torch.nonzero(low < high)[:, 0]
    trial = _between(low, high) if first is None else torch.minimum(first, high)
    for step in range(steps):
        if not len(rows):
            break
        roots = curves.roots().masked_fill(own, torch.inf)
        if step == 0:
            others = open_classes(curves.known[rows], ceiling[rows], high[rows])
        else:
            others = roots[rows].argsort(dim=1)[:, :nearest]
            aim = roots.amin(dim=1) * (1.0 - CLOSE)  # a little below, so that it is proved
            trial = torch.minimum(torch.maximum(aim, low), high)
        margins = evaluate(rows, trial[rows], others)
        margins = margins.masked_fill(own[rows].gather(1, others), torch.inf)
        curves = curves.learned(rows, others, trial[rows], margins)
        roots = curves.roots().masked_fill(own, torch.inf)
        binding = roots.argsort(dim=1)[:, :nearest]
        low = curves.known.gather(1, binding).amin(dim=1)
        rows = torch.nonzero(low < (1.0 - 2.0 * CLOSE) * torch.minimum(roots.amin(1), high))[:, 0]
    return _confirmed(evaluate, curves, ceiling, low).masked_fill(own, 0.0)


def _between(low: Tensor, high: Tensor) -> Tensor:
    # Halfway, in proportion where the two differ much.
    geometric = 2.0 * (low.clamp(min=1e-12, max=1e100) * high).sqrt()
    return torch.minimum((low + high) / 2.0, geometric)


def _confirmed(evaluate: Evaluation, curves: Curves, ceiling: Tensor, low: Tensor) -> Tensor:
    own = torch.isinf(ceiling)
    for _ in range(CONFIRMATIONS):
        rows = torch.nonzero((curves.known < low[:, None]).any(dim=1))[:, 0]
        if not len(rows):
            break
        others = open_classes(curves.known[rows], ceiling[rows], low[rows])
        margins = evaluate(rows, low[rows], others)
        # What is known already may fill up the other classes, and needs no proof.
        done = curves.known[rows].gather(1, others) >= low[rows, None]
        margins = margins.masked_fill(done, torch.inf)
        curves = curves.learned(rows, others, low[rows], margins)
        roots = curves.roots().masked_fill(own | (curves.known >= low[:, None]), torch.inf)
        fallen = torch.minimum(roots.amin(dim=1) * (1.0 - 2.0 * CLOSE), low)
        low = torch.maximum(fallen, curves.known.amin(dim=1))
    return curves.known


def open_classes(known: Tensor, ceiling: Tensor, outer: Tensor) -> Tensor:
    """List the other classes that may overtake within `outer`, the same number for every image.

    Args:
        known: (B, K) radii known already.
        ceiling: (B, K) radii that cannot be exceeded.
        outer: (B,) radii of interest.

    Returns:
        (B, M) classes, the most dangerous first; the predicted class may fill up.
    """
    wanted = (known < outer[:, None]) & torch.isfinite(ceiling)
    count = max(1, int(wanted.sum(dim=1).max()))
    order = torch.where(wanted, ceiling, torch.inf).argsort(dim=1)
    return order[:, :count]
