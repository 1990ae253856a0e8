"""Give a radius to what holds in float64 beyond its own rounding, if need be after a push."""

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcl.attacks.attack_inputs import AttackInputs
from robustcl.attacks.exact_margin import exact_margin
from robustcl.attacks.measuring import measure
from robustcl.attacks.nearest import TOLERANCE
from robustcl.attacks.nearest_on_plane import nearest_on_plane
from robustcl.attacks.other_classes import LEAP
from robustcl.attacks.results import AttackResult, join_notes
from robustcl.attacks.steps import column, value_and_gradient
from robustcl.core.batching import fill
from robustcl.core.choices import Norm
from robustcl.core.errors import UnsupportedError
from robustcl.core.memory import is_out_of_memory
from robustcl.core.modules import eval_mode, exact_copy
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat, perturbation_norm

PUSHES = 12
ROWS = 32  # of a batch in float64 at most: few points are left, and rows that fill it cost as well
_BISECTIONS = 5  # between the last push that did not suffice and the one that did


@torch.inference_mode(False)
def confirmed(
    result: AttackResult,
    objective: Objective,
    exact: Objective,
    images: Tensor,
    threat: Threat,
    *,
    batch_size: int = 128,
) -> AttackResult:
    """Push points outward until a second objective has won at them too; give those a radius.

    An attack that ends within rounding of the boundary may win in float32 and not in the real
    network, about which certificates speak. Each push goes along the gradient of the second margin
    to where it exceeds its own rounding as far as its linearization says, and each goes twice as
    far as the one before; a bisection takes back what was too much. A point counts when the second
    margin exceeds its rounding (`exact_margin`), the first is positive, and it lies in the box and
    within eps (1 + 1e-6).

    Args:
        result: What was found.
        objective: What it was found for.
        exact: The same aim in float64; it is given the points in that type.
        images: (B, C, H, W) clean images.
        threat: The norm, the box, and the largest budgets.
        batch_size: Images per model call, of which the second objective gets 32 at most.

    Returns:
        The attack result with its radii, infinite for images whose point is not confirmed;
        `success` and `deployed` stay. Gradients of the pushes are added, as stage 'confirm'.
    """
    inputs = AttackInputs(objective, images.detach(), threat, range(len(images)), batch_size)
    return _judged(result, _Judge(inputs, exact, objective))


def confirm(result: AttackResult, inputs: AttackInputs) -> AttackResult:
    """Confirm a attack result on a float64 copy of the model, see `confirmed`.

    Args:
        result: What was found.
        inputs: What was attacked.

    Returns:
        The attack result with its radii; where the objective is about no classifier that can be
        copied and run in float64 there are none, and the note says so.

    Raises:
        RuntimeError: When memory runs out.
    """
    model, about = inputs.objective.classifier, inputs.objective.about
    if not bool(result.success.any()):
        return _with_stage(result, 0.0)
    if model is None or about is None:
        return _unconfirmed(result, "the objective does not say what it is about another model")
    try:
        copied = exact_copy(model)
        rough = inputs.objective
        if model.encoder.mean.dtype != torch.float32:
            rough = about(exact_copy(model).float())
        return _judged(result, _Judge(inputs, about(copied), rough))
    except (TypeError, UnsupportedError) as error:
        return _unconfirmed(result, str(error).partition("\n")[0])
    except RuntimeError as error:  # of the network's own code, which may know float32 alone
        if is_out_of_memory(error):
            raise
        return _unconfirmed(result, str(error).partition("\n")[0])


def outer_norm(points: Tensor, images: Tensor, norm: Norm) -> Tensor:
    """Measure a perturbation in float64, rounded up.

    Args:
        points: (B, ...).
        images: (B, ...).
        norm: 'l2', 'linf' or 'l1'.

    Returns:
        (B,) float64 numbers, no smaller than the norms.
    """
    rounded = 1.0 + points[0].numel() * torch.finfo(torch.float64).eps
    return rounded * perturbation_norm(points.double() - images.double(), norm)


@dataclass(frozen=True, eq=False)
class _Judge:
    # The attack inputs, and its aim in float64 and in float32.
    inputs: AttackInputs
    exact: Objective
    rough: Objective

    @property
    def size(self) -> int:
        # Images per call in float64.
        return min(self.inputs.batch_size, ROWS)

    def select(self, rows: Tensor) -> "_Judge":
        return _Judge(self.inputs.select(rows), self.exact.select(rows), self.rough.select(rows))

    def look(self, points: Tensor) -> tuple[Tensor, Tensor]:
        # Whether the points count for float64, and what their margins have to exceed.
        margin, bound = exact_margin(self.exact, self.rough, points, batch_size=self.size)
        return torch.isfinite(margin) & (margin > bound), bound.nan_to_num(0.0, 0.0, 0.0)

    def allows(self, points: Tensor) -> Tensor:
        # Whether points that were moved are within the threat and fool the deployed model.
        inputs = self.inputs
        norms = perturbation_norm(points - inputs.images, inputs.threat.norm)
        within = norms <= inputs.threat.radii(inputs.images).double() * (1.0 + TOLERANCE)
        return within & (measure(inputs.objective, points, batch_size=inputs.batch_size) > 0)


def _judged(result: AttackResult, judge: _Judge) -> AttackResult:
    begun, inputs = time.monotonic(), judge.inputs
    points, spent = result.adversarials.clone(), torch.zeros(len(inputs.images)).long()
    sure, rows = torch.zeros_like(result.success), torch.nonzero(result.success)[:, 0]
    with eval_mode(inputs.objective.classifier), eval_mode(judge.exact.classifier):
        if len(rows):
            sure[rows], bounds = judge.select(rows).look(points[rows])
            left = ~sure[rows]
            if bool(left.any()):
                short = rows[left]
                moved, won, cost = _pushed(judge.select(short), points[short], bounds[left])
                points[short] = torch.where(column(won, moved), moved, points[short])
                sure[short], spent[short.cpu()] = won, cost
    norms = outer_norm(points, inputs.images, inputs.threat.norm)
    found = replace(
        result,
        adversarials=points,
        radius=torch.where(sure, norms, torch.inf),
        gradients=result.gradients + spent,
    )
    return _with_stage(found, time.monotonic() - begun, spent)


def _pushed(judge: _Judge, points: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # Points that count where there are any, whether there are, and the gradients spent.
    low, high, cost = points.clone(), points.clone(), torch.zeros(len(points)).long()
    sure = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for step in range(PUSHES):
        rows = torch.nonzero(~sure)[:, 0]
        if not len(rows):
            break
        part = judge.select(rows)
        moved = _outward(part, low[rows], bounds[rows], 2.0**step)
        won, bounds[rows] = part.look(moved)
        won = won & part.allows(moved)
        high[rows], sure[rows] = moved, won
        low[rows] = torch.where(column(won, moved), low[rows], moved)
        cost[rows.cpu()] += judge.exact.evaluations
    rows = torch.nonzero(sure)[:, 0]
    if len(rows):
        high[rows] = _back(judge.select(rows), low[rows], high[rows])
    return high, sure, cost


def _outward(judge: _Judge, points: Tensor, bounds: Tensor, share: float) -> Tensor:
    found, inputs = [], judge.inputs
    for chunk in torch.arange(len(points), device=points.device).split(judge.size):
        rows = fill(chunk, judge.size)
        threat, images, start = (
            inputs.threat.select(rows),
            inputs.images[rows],
            points[rows].double(),
        )
        value, gradient = value_and_gradient(judge.exact.select(rows).margin, start)
        slope = torch.linalg.vector_norm(gradient.double().flatten(1), dim=1)
        rise = share * ((2.0 * bounds[rows] - value.double()).clamp_min(0.0) + LEAP * slope)
        move = nearest_on_plane(start, gradient, rise, norm=threat.norm, box=threat.box)
        found.append(threat.project(images, (start + move).to(points))[: len(chunk)])
    return torch.cat(found)


def _back(judge: _Judge, low: Tensor, high: Tensor) -> Tensor:
    # Bisect between points that do not count and points that do.
    inputs = judge.inputs
    for _ in range(_BISECTIONS):
        middle = ((low.double() + high.double()) / 2.0).to(high)
        nearer = outer_norm(middle, inputs.images, inputs.threat.norm) < outer_norm(
            high, inputs.images, inputs.threat.norm
        )
        won = column(judge.look(middle)[0] & judge.allows(middle) & nearer, high)
        low, high = torch.where(won, low, middle), torch.where(won, middle, high)
    return high


def _unconfirmed(result: AttackResult, reason: str) -> AttackResult:
    note = f"not confirmed in float64: {reason}"
    return _with_stage(replace(result, note=join_notes([result.note, note])), 0.0)


def _with_stage(result: AttackResult, seconds: float, spent: Tensor | None = None) -> AttackResult:
    if not result.stages:
        return result
    spent = torch.zeros_like(result.gradients) if spent is None else spent
    return replace(
        result,
        stages={**result.stages, "confirm": spent},
        seconds={**result.seconds, "confirm": seconds},
    )
