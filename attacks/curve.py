"""Keep what an attack had reached after each number of evaluations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from robustcl.attacks.nearest import TOLERANCE
from robustcl.core.objectives import Objective
from robustcl.core.threat import ORDERS, Threat

# Evaluations of the margin at which curves are kept: 1, and on by the square root of 2.
EVALUATIONS = np.unique(np.round(2.0 ** (np.arange(31) / 2.0)).astype(np.int64))
Heard = tuple[Tensor, Tensor, Tensor]  # rows, margins, norms of one call


@dataclass(frozen=True, eq=False)
class LossCurve:
    """Hold, per image, the best so far after `EVALUATIONS` evaluations of the margin.

    Only points within the budget count. Where an attack ends earlier, its last state stays.

    Args:
        margins: (B, T) float32 highest margin; NaN where the image was not attacked.
        norms: (B, T) float32 smallest norm at which the margin was positive; infinite for none.
        counts: (B,) int64 evaluations made.
    """

    margins: np.ndarray
    norms: np.ndarray
    counts: np.ndarray


def watched(objective: Objective, images: Tensor, threat: Threat, heard: list[Heard]) -> Objective:
    """Return the same objective, of which every call of the margin is noted on its device.

    Nothing is moved to the host, so nothing waits.

    Args:
        objective: The objective, for these images.
        images: (B, ...) clean images.
        threat: The norm.
        heard: To which each call adds its rows, margins and norms.

    Returns:
        The objective.
    """
    order = ORDERS[threat.norm]

    def aim(rows: Tensor) -> Callable[[Tensor], Tensor]:
        margin, clean = objective.select(rows).margin, images[rows]

        def noted(points: Tensor) -> Tensor:
            values = margin(points)
            with torch.no_grad():
                norms = torch.linalg.vector_norm((points - clean).flatten(1), order, dim=1)
                heard.append((rows, values.detach().float(), norms.float()))
            return values

        return noted

    return replace(objective, margin=aim(torch.arange(len(images), device=images.device)), aim=aim)


def curve_of(heard: Sequence[Heard], budgets: Tensor, true: int) -> LossCurve | None:
    """Follow the best of each image from call to call.

    Args:
        heard: What `watched` noted.
        budgets: (B,) largest norms that count.
        true: Images, of the B, that the curve is about; the others repeat one.

    Returns:
        The curve; None where the margin was never called, as by attacks of other packages.
    """
    if not heard:
        return None
    columns = [torch.cat(column).cpu().numpy() for column in zip(*heard, strict=True)]
    ends = np.cumsum([len(rows) for rows, _, _ in heard])[:-1]
    count = len(budgets)
    most = budgets.double().cpu().numpy() * (1.0 + TOLERANCE)
    best, least = np.full(count, -np.inf, np.float32), np.full(count, np.inf, np.float32)
    shape = (count, len(EVALUATIONS))
    margins, norms = np.full(shape, np.nan, np.float32), np.full(shape, np.inf, np.float32)
    counts = np.zeros(count, np.int64)
    for rows, values, sizes in zip(*(np.split(column, ends) for column in columns), strict=True):
        # A batch repeats rows to keep its shape. A repeated one may hold another image's point,
        # which then lies far outside of the budget.
        inside = (sizes <= most[rows]) & ~np.isnan(values)
        np.maximum.at(best, rows, np.where(inside, values, -np.inf))
        np.minimum.at(least, rows, np.where(inside & (values > 0), sizes, np.inf))
        seen = np.unique(rows)
        counts[seen] += 1
        column = np.searchsorted(EVALUATIONS, counts[seen]).clip(max=len(EVALUATIONS) - 1)
        due = EVALUATIONS[column] == counts[seen]
        margins[seen[due], column[due]] = best[seen[due]]
        norms[seen[due], column[due]] = least[seen[due]]
    after = (counts[:, None] > 0) & (EVALUATIONS[None] >= counts[:, None])
    margins = np.where(after, best[:, None], margins)
    norms = np.where(after, least[:, None], norms)
    return LossCurve(margins[:true], norms[:true], counts[:true])


def joined_curves(curves: Sequence[LossCurve | None]) -> LossCurve | None:
    """Put the curves of several batches into one.

    Args:
        curves: Of one attack, in order.

    Returns:
        The curve of all images; None where one batch has none.
    """
    known = [curve for curve in curves if curve is not None]
    if not known or len(known) < len(curves):
        return None
    columns = zip(*((part.margins, part.norms, part.counts) for part in known), strict=True)
    return LossCurve(*(np.concatenate(column) for column in columns))


def spread_of_curves(curve: LossCurve, rows: np.ndarray, count: int) -> LossCurve:
    """Give a curve of some images a row for every image.

    Args:
        curve: Of R images.
        rows: (R,) their positions.
        count: Number of images.

    Returns:
        The curve; margins are NaN for the others.
    """
    shape = (count, curve.margins.shape[1])
    margins, norms = np.full(shape, np.nan, np.float32), np.full(shape, np.inf, np.float32)
    counts = np.zeros(count, np.int64)
    margins[rows], norms[rows], counts[rows] = curve.margins, curve.norms, curve.counts
    return LossCurve(margins, norms, counts)
