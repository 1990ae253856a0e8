"""Attack by the reference AutoAttack."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast

from torch import Tensor, nn

from robustcl.attacks.forward_passes import CountedModel, generators_seeded
from robustcl.attacks.results import Candidates
from robustcl.attacks.square_tiles import cut_tiles
from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat

Version = Literal["standard", "plus", "rand"]
PACKAGE_NORMS: dict[Norm, Literal["L2", "Linf", "L1"]] = {"l2": "L2", "linf": "Linf", "l1": "L1"}
VERSIONS: tuple[Version, ...] = ("standard", "plus", "rand")
RESEEDS = "the package reseeds per batch, so points depend on the batch"
WARNINGS = {
    "randomized": "the model seems randomized, see version=rand",
    "probability": "the scores look like probabilities, give logits",
    "zero gradient": "an image has a zero gradient at the start",
    "dynamic": "gradients are taken inside the model",
}


def autoattack(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    version: str = "standard",
    seeds: Sequence[int] | None = None,
) -> Candidates:
    """Run the reference package `pyautoattack` and return its points.

    The standard version is APGD on cross-entropy, targeted APGD, targeted FAB and Square; 'plus'
    adds APGD on DLR and untargeted FAB and gives five restarts; 'rand' is APGD on both losses with
    20 gradients a step. `reference_cost` states what each costs. With three classes targeted APGD
    is replaced by APGD on DLR, and with two both are left out, since their losses need more
    classes. Square's first stripes are cut at the edge, where the package itself fails in L2 at
    sizes such as 12, 14, 18, 19 and 24; below 5 pixels Square is left out in L2 and L1.

    The package reseeds one global generator per batch, so unlike other attacks its points depend on
    the batch: it is exempt from the rule that they do not, and the note says so. Its own saved
    state is not used, as it cannot be resumed; an interrupted run repeats whole batches and ends
    with the same records. Generators, tracing, the model's mode and its weights' `grad` are left as
    they were.

    Args:
        objective: Must have a classifier and targets.
        images: (B, C, H, W) in [0, 1].
        threat: The ball with one budget for all images, and the box [0, 1].
        version: 'standard', 'plus' or 'rand'.
        seeds: The first one seeds the package.

    Returns:
        The points, and the passes per image. Gradients are exact; of the forward passes, those in
        which an attack looks who is left are shared among the images that entered it.

    Raises:
        InputError: When the objective has no classifier or targets, or the threat or the version
            is one that the package does not treat.

    Reference:
        Croce and Hein, Reliable Evaluation of Adversarial Robustness, ICML 2020.
    """
    if objective.classifier is None or objective.targets is None:
        raise InputError(
            "autoattack needs class scores; use an objective with a classifier, or pgd"
        )
    eps = one_budget(threat, images, "autoattack")
    points = images.detach().float()  # the package works in float32
    model = CountedModel(objective.classifier, images)
    heard: set[str] = set()
    with eval_mode(objective.classifier), generators_seeded(seeds) as seed, _tracing_kept():
        size = (images.shape[2], images.shape[3])
        classes = objective.classifier.num_classes
        attack, left_out = _package(model, threat.norm, eps, version, classes, size, seed=seed)
        attack.device = images.device
        for part in _parts(attack):
            part.device = images.device
        attack.logger = attack.apgd.logger = attack.apgd_targeted.logger = _listener(heard)
        _count(attack, model)
        targets = objective.targets.to(images.device)
        found, _ = attack.run_standard_evaluation(points, targets, batch_size=len(images))
    forwards, gradients = model.cost()
    note = "; ".join([*left_out, *sorted(heard), RESEEDS])
    return Candidates(found.detach().to(images.dtype), gradients, note, forwards)


class Passes(NamedTuple):
    """Count passes of one image.

    Args:
        forwards: Forward passes.
        gradients: Backward passes.
    """

    forwards: int
    gradients: int


def reference_cost(
    classes: int, norm: Norm, *, version: str = "standard", size: tuple[int, int] = (32, 32)
) -> tuple[Passes, Passes]:
    """State what `autoattack` spends on one image.

    With 10 classes an image that survives costs 7,864 forward and 1,910 backward passes (standard),
    or 9,787 and 7,819 (plus).

    Args:
        classes: Number of classes.
        norm: 'l2', 'linf' or 'l1'.
        version: 'standard', 'plus' or 'rand'.
        size: Height and width.

    Returns:
        The exact cost of an image that survives, and of one that the first run of the first attack
        fools: no image that is right at the start costs less.
    """
    model = nn.Identity()
    attack, _ = _package(model, norm, 1.0, version, classes, size, seed=0)
    checks = 3 if version == "rand" else 8  # of the package on the model, and the clean accuracy
    phases = 3 if attack.apgd.use_largereps else 1  # budgets, each with a gradient at its start
    steps = (attack.apgd.n_iter + phases) * attack.apgd.eot_iter
    forwards, gradients = checks, 0
    for name in attack.attacks_to_run:
        runs, before, each, spent = _runs(attack, name, steps, classes)
        forwards += 2 + runs * (before + each)
        gradients += runs * spent
    return Passes(forwards, gradients), Passes(checks + 2 + steps, steps)


def one_budget(threat: Threat, images: Tensor, name: str) -> float:
    """Return the budget where it is the same for all images and the box is [0, 1].

    Args:
        threat: The threat.
        images: (B, C, H, W).
        name: The attack, for the message.

    Returns:
        eps.

    Raises:
        InputError: When the budgets differ or the box is another one.
    """
    radii = threat.radii(images)
    if threat.box != (0.0, 1.0) or bool((radii != radii[0]).any()):
        raise InputError(f"{name} takes one eps for all images and the box (0, 1); use pgd")
    return float(radii[0]) if isinstance(threat.eps, Tensor) else float(threat.eps)


def _package(
    model: nn.Module,
    norm: Norm,
    eps: float,
    version: str,
    classes: int,
    size: tuple[int, int],
    *,
    seed: int,
) -> tuple[Any, list[str]]:
    # The package's object, ready for the number of classes and the size, and what was left out.
    if version not in VERSIONS:
        raise InputError(f"unknown version {version!r} of autoattack; use {', '.join(VERSIONS)}")
    from pyautoattack import AutoAttack  # slow to import

    attack = AutoAttack(
        model,
        eps=eps,
        norm=PACKAGE_NORMS[norm],
        version=cast(Version, version),
        seed=seed,
    )
    names, notes = _names(list(attack.attacks_to_run or ()), classes)
    if norm != "linf" and "square" in names:
        if size[0] < 5:
            names.remove("square")
            notes.append(f"no Square: in L2 and L1 it needs 5 rows of pixels, not {size[0]}")
        else:
            cut_tiles(attack.square)
    attack.attacks_to_run = cast(Any, names)
    for part in (attack.apgd_targeted, attack.fab):
        part.n_target_classes = min(part.n_target_classes, classes - 1)
    return attack, notes


def _names(wanted: list[str], classes: int) -> tuple[list[str], list[str]]:
    names, notes = list(wanted), []
    if classes <= 3 and "apgd-t" in names:
        names.remove("apgd-t")
        notes.append(f"no targeted APGD with {classes} classes")
        if classes == 3 and "apgd-dlr" not in names:
            names.insert(1, "apgd-dlr")
    if classes == 2 and "apgd-dlr" in names:
        names.remove("apgd-dlr")
        notes.append("no DLR loss with 2 classes")
    return names, notes


def _parts(attack: Any) -> list[Any]:
    return [attack.apgd, attack.apgd_targeted, attack.fab, attack.square]


def _runs(attack: Any, name: str, steps: int, classes: int) -> tuple[int, int, int, int]:
    # Runs of an attack; forward passes beside and within the steps, and gradients, of each.
    fab = 2 * attack.fab.n_iter
    if name in ("apgd-ce", "apgd-dlr"):
        return attack.apgd.n_restarts, 0, steps, steps
    if name == "apgd-t":
        return attack.apgd_targeted.n_target_classes, 1, steps, steps
    if name == "fab-t":
        return attack.fab.n_target_classes, 3, fab, attack.fab.n_iter
    if name == "fab":
        return attack.fab.n_restarts, 2, fab, classes * attack.fab.n_iter
    return attack.square.n_restarts, 1, attack.square.n_queries + 1, 0


def _count(attack: Any, model: CountedModel) -> None:
    # Tell the counter which images take part: each run is given them as they are.
    for part in (attack.apgd, attack.apgd_targeted, attack.fab):
        for method in ("perturb", "attack_single_run"):
            setattr(part, method, _counting(getattr(part, method), model))
    square = attack.square
    inner, square.perturb = square.attack_single_run, _counting(square.perturb, model)

    def counted(images: Tensor, targets: Tensor) -> Any:
        # Square drops images as it goes, and says itself how many queries each one took.
        with model.only(images, silent=True) as rows:
            queries, points = inner(images, targets)
            model.forwards[rows] += queries.double().cpu()
        return queries, points

    square.attack_single_run = counted


def _counting(inner: Any, model: CountedModel) -> Any:
    def counted(images: Tensor, *rest: Any, **options: Any) -> Any:
        with model.only(images):
            return inner(images, *rest, **options)

    return counted


def _listener(heard: set[str]) -> logging.Logger:
    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            heard.update(say for word, say in WARNINGS.items() if word in text)

    logger = logging.Logger("autoattack", logging.WARNING)
    logger.addHandler(Listener())
    return logger


@contextmanager
def _tracing_kept() -> Iterator[None]:
    # The package switches tracing on and off, which would end a debugger or a coverage run.
    from pyautoattack import checks

    trace = sys.gettrace()
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # it never forgets a warning of its own
    try:
        yield
    finally:
        sys.settrace(trace)
