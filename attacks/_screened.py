"""Attack certificate first: the reference AutoAttack only where nothing cheaper decides."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustcl.attacks._autoattack import VERSIONS, Passes, one_budget, reference_cost
from robustcl.attacks.attack_inputs import AttackInputs, attack_inputs
from robustcl.attacks.confirmation import confirm
from robustcl.attacks.measuring import measure
from robustcl.attacks.results import AttackResult
from robustcl.attacks.searched import searched
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat

# One short round: what a longer one finds besides, the reference's first attacks find for fewer
# gradients than the round costs all the others.
PGD = {"steps": 8, "restarts": 1}
SCREEN_ROWS = 32  # of a batch at most: few images are left, and rows that fill a batch cost as well
FREE = Passes(0, 0)
STAGES = ("start", "certified", "pgd", "reference", "survived")


@dataclass(frozen=True)
class Stage:
    """Count what one stage decided and spent.

    Args:
        name: One of `STAGES`.
        entered: Images that were looked at.
        decided: Images that need no further stage.
        forwards: Forward passes of all images.
        gradients: Backward passes of all images.
    """

    name: str
    entered: int
    decided: int
    forwards: int
    gradients: int


@dataclass(frozen=True, eq=False)
class Screening:
    """Hold a screened evaluation at one budget.

    Args:
        result: The verified attack result, per image the worst over all stages; `decided` and
            robust accuracy go by its `success`.
        decided: (B,) names of `STAGES`: where the image was decided.
        stages: What each stage spent.
        reference_forwards: (B,) int64 forward passes that the reference alone would take.
        reference_gradients: (B,) int64 backward passes, likewise. Both are exact for images that
            are certified or survive, measured for those that only the reference fools, and a
            lower bound for the others, so that the saving is never overstated.
    """

    result: AttackResult
    decided: tuple[str, ...]
    stages: tuple[Stage, ...]
    reference_forwards: Tensor
    reference_gradients: Tensor

    @property
    def saving(self) -> float:
        """How many times more gradients the reference alone takes, at least."""
        return _ratio(self.reference_gradients.sum(), self.result.gradients.sum())

    @property
    def ceiling(self) -> float:
        """The saving, were only those images attacked that are not certified and survive."""
        left = torch.tensor([name == "survived" for name in self.decided])
        return _ratio(self.reference_gradients.sum(), self.reference_gradients[left].sum())


@torch.inference_mode(False)
def screened(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    certified: Tensor | None = None,
    version: str = "standard",
    seeds: Sequence[int] | None = None,
    batch_size: int = 128,
) -> Screening:
    """Evaluate at one budget: certificates, a round of PGD, then the reference AutoAttack.

    An image whose certified radius reaches eps is not attacked: within the open ball the margin is
    <= 0, and so, being continuous, on its rim. An image that verified PGD fools is out; all others
    go through the whole reference. So no image is left standing that the reference alone would
    fool, but for the luck of its draws, as it reseeds per batch; where a certificate is wrong, the
    mistake goes unnoticed here.

    Args:
        objective: Must have a classifier and targets.
        images: (B, C, H, W) in [0, 1].
        threat: The ball with one budget for all images, and the box [0, 1].
        certified: (B,) radii of sound certificates in the same norm about leaving the same
            targets, 0 where nothing is proved; None for no certificates.
        version: Of `autoattack`: 'standard', 'plus' or 'rand'.
        seeds: One seed per image; 0, 1, ... by default.
        batch_size: Images per model call; PGD takes 32 at most.

    Returns:
        The attack result, with the passes spent per image and by stage, verification included, and
        what the reference alone would have taken.

    Raises:
        InputError: When the objective, the threat or the version is none that the reference treats,
            or there are not as many certified radii as images.
    """
    if objective.classifier is None or objective.targets is None:
        raise InputError("screened needs class scores; use an objective with a classifier, or pgd")
    if version not in VERSIONS:
        raise InputError(f"unknown version {version!r} of autoattack; use {', '.join(VERSIONS)}")
    eps = one_budget(threat, images, "screened")
    radii = torch.zeros(len(images)) if certified is None else certified.detach().cpu().double()
    if radii.shape != (len(images),):
        raise InputError(f"{len(images)} images have certified radii of shape {tuple(radii.shape)}")
    size = (images.shape[2], images.shape[3])
    classes, views = objective.classifier.num_classes, objective.evaluations
    most, least = reference_cost(classes, threat.norm, version=version, size=size)
    cost = (Passes(*(views * n for n in most)), Passes(*(views * n for n in least)))
    job = attack_inputs(objective, images, threat, seeds or None, batch_size)
    state = _start(job)
    state.settle((radii >= eps) & state.open, "certified", entered=int(state.open.sum()))
    _attack(job, state, "pgd", "pgd", PGD)
    _attack(job, state, "reference", "autoattack", {"version": version})
    state.decided = ["survived" if name == "" else name for name in state.decided]
    parameters = {"version": version, "pgd": PGD, "certified": certified is not None}
    result = AttackResult(
        "screened", state.found, torch.isfinite(state.deployed), state.deployed,
        torch.full_like(state.deployed, torch.inf), state.gradients, parameters, state.note,
        state.forwards,
    )  # fmt: skip
    alone = _alone(state, cost)
    return Screening(
        confirm(result, job), tuple(state.decided), tuple(state.stages), alone[0], alone[1]
    )


@dataclass(eq=False)
class _State:
    # What is known so far, per image; filled stage by stage.
    found: Tensor
    deployed: Tensor
    forwards: Tensor
    gradients: Tensor
    reference: tuple[Tensor, Tensor]  # passes measured in the reference
    decided: list[str]
    stages: list[Stage]
    note: str = ""

    @property
    def open(self) -> Tensor:
        return torch.tensor([name == "" for name in self.decided])

    def settle(self, rows: Tensor, name: str, *, entered: int, spent: Passes = FREE) -> None:
        for row in torch.nonzero(rows)[:, 0].tolist():
            self.decided[row] = name
        self.stages.append(Stage(name, entered, int(rows.sum()), *spent))


def _start(job: AttackInputs) -> _State:
    model = job.objective.classifier
    with eval_mode(model) if model is not None else nullcontext():
        won = measure(job.objective, job.images, batch_size=job.batch_size) > 0
    count = len(job.images)
    zeros = torch.zeros(count, dtype=torch.int64)
    state = _State(
        found=job.images.detach().clone(),
        deployed=torch.where(won, 0.0, torch.inf).double(),
        forwards=zeros + 1,
        gradients=zeros.clone(),
        reference=(zeros.clone(), zeros.clone()),
        decided=[""] * count,
        stages=[],
    )
    state.settle(won.cpu(), "start", entered=count, spent=Passes(count, 0))
    return state


def _attack(
    job: AttackInputs, state: _State, name: str, attack: str, options: dict[str, Any]
) -> None:
    # Attack those still open and settle those that it fools.
    rows = torch.nonzero(state.open)[:, 0]
    if not len(rows):
        state.stages.append(Stage(name, 0, 0, 0, 0))
        return
    there = rows.to(job.images.device)
    model = job.objective.classifier
    assert model is not None
    size = min(job.batch_size, SCREEN_ROWS) if name == "pgd" else job.batch_size
    with _rows_seen(model) as seen:
        result = searched(attack, replace(job.select(there), batch_size=size), **options)
    if attack == "pgd" or result.forwards is None:  # all rows of a padded batch take the same
        padded = -(-len(rows) // size) * size
        forwards = torch.full((len(rows),), sum(seen) * model.evaluations // padded)
    else:
        state.reference[0][rows] += result.forwards
        state.reference[1][rows] += result.gradients
        forwards = result.forwards + 1  # the verification
    state.forwards[rows] += forwards
    state.gradients[rows] += result.gradients
    state.found[there], state.deployed[there] = result.adversarials, result.deployed
    state.note = result.note or state.note
    fooled = torch.zeros(len(job.images), dtype=torch.bool)
    fooled[rows] = result.success.cpu()
    spent = Passes(int(forwards.sum()), int(result.gradients.sum()))
    state.settle(fooled, name, entered=len(rows), spent=spent)


def _alone(state: _State, cost: tuple[Passes, Passes]) -> tuple[Tensor, Tensor]:
    most, least = cost
    stated = {"start": FREE, "certified": most, "pgd": least}
    totals = (state.reference[0].clone(), state.reference[1].clone())
    for row, name in enumerate(state.decided):
        if name in stated:
            totals[0][row], totals[1][row] = stated[name]
    return totals


@contextmanager
def _rows_seen(model: nn.Module) -> Iterator[list[int]]:
    seen: list[int] = []
    handle = model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    try:
        yield seen
    finally:
        handle.remove()


def _ratio(above: Tensor, below: Tensor) -> float:
    return float(above) / float(below) if int(below) else float("inf")
