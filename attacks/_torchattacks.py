"""Attack by any attack of the package torchattacks."""

import contextlib
import importlib
import inspect
import io
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from torch import Tensor

from robustcl.attacks._autoattack import PACKAGE_NORMS, RESEEDS, one_budget
from robustcl.attacks.forward_passes import CountedModel, generators_seeded
from robustcl.attacks.results import Candidates
from robustcl.attacks.square_tiles import square_tiles
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.objectives import Objective
from robustcl.core.specification import Specification, choose, parse_specification
from robustcl.core.threat import Threat

_SUPPLIED = ("self", "model", "eps", "max_epsilon", "norm", "seed", "verbose", "n_classes")
NOT_ATTACKS = ("Attack", "MultiAttack", "LGV", "VANILA")
REFERENCE_STEPS = 100  # of APGD in the reference AutoAttack
LEAST_CLASSES = {"APGDT": 4, "AutoAttack": 4}  # of targeted DLR
THREE_CHANNELS = ("PIFGSM", "PIFGSMPP", "TIFGSM")  # their kernels are made for no other images
REAL = ("c", "kappa", "scale", "lam", "nsig")  # defaults are whole, values need not be


def torchattacks(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    name: str,
    seeds: Sequence[int] | None = None,
    **options: Any,
) -> Candidates:
    """Run an attack of the package `torchattacks` and return its points.

    It is written 'torchattacks:CW,steps=50'. An attack that takes eps is given the threat's, and a
    step size `alpha` that is not given keeps the package's proportion to eps; any other attack
    looks for a small perturbation by itself, which `run` moves into the ball. All parameters are
    read off the attack and stated in the note. The package's class AutoAttack runs APGD with 10
    steps where the reference takes 100; for the reference use `autoattack`. CW cannot move a pixel
    that is exactly 0 or 1.

    The input normalization is inside the classifier, so none is set. Scores are shifted to be >= 0,
    without effect on any margin, as CW takes the 0 of the masked class for another class's score.
    Generators, the model's mode and its weights' `grad` are left as they were.

    Args:
        objective: Must have a classifier and targets.
        images: (B, C, H, W) in [0, 1].
        threat: The ball and the box [0, 1]; one budget for all images where the attack takes eps.
        name: The class in the package, such as CW, PGDL2, DeepFool, Square.
        seeds: The first one seeds the batch.
        **options: Arguments of that class.

    Returns:
        The points, and the passes per image: an average over the batch where the attack treats its
        images one after another, as the note says.

    Raises:
        InputError: When the package is absent, the name or an option is unknown, or the attack
            does not treat the objective, the threat or the images.

    Reference:
        Kim, Torchattacks, arXiv 2020; each attack's own paper is in its docstring.
    """
    kind = _class(name)
    if objective.classifier is None or objective.targets is None:
        raise InputError(f"torchattacks:{name} needs class scores; use pgd")
    _refuse_unknown(name, kind, options)
    model = CountedModel(objective.classifier, images, shifts=True)
    classes = objective.classifier.num_classes
    with eval_mode(objective.classifier), generators_seeded(seeds) as seed:
        given = _arguments(name, kind, images, threat, options)
        given |= {"seed": seed, "n_classes": classes}
        given = {key: value for key, value in given.items() if key in _known(kind)}
        _refuse_unfit(name, given, images, classes)
        with contextlib.redirect_stdout(io.StringIO()):
            attack = kind(model, **given)
            attack.set_device(images.device)
            if name == "JSMA":  # its own target is the next of ten classes
                attack.set_mode_targeted_by_function(lambda _, labels: (labels + 1) % classes)
            found = attack(images.detach(), objective.targets.to(images.device))
    parameters = _parameters(attack)
    forwards, gradients = model.cost()
    note = _note(name, kind, attack, threat, averaged="gradients" in model.shared)
    return Candidates(found.detach(), gradients, note, forwards, {"name": name, **parameters})


def named_torchattack(text: str) -> Specification | None:
    """Read 'torchattacks:CW,steps=50'; what follows the colon names the class.

    Args:
        text: The text.

    Returns:
        The specification, with the class as option `name`; None where the text is about another
        attack.

    Raises:
        InputError: When no class is named, or the package does not have it or one of its options.
    """
    start, _, rest = text.strip().partition(":")
    if start != "torchattacks":
        return None
    name, comma, options = (part.strip() for part in rest.partition(","))
    if not name or "=" in name:
        raise InputError(f"{text!r} names no attack; write torchattacks:CW,steps=50")
    kind = _class(name)
    found = parse_specification(f"{start}:{options}" if comma else start).options
    _refuse_unknown(name, kind, found)
    return Specification(start, {"name": name, **found}, text.strip())


def torchattacks_names() -> list[str]:
    """List the attacks of the package.

    Returns:
        The names of its classes.

    Raises:
        InputError: When the package is absent.
    """
    try:
        package = importlib.import_module("torchattacks")
    except ImportError as error:
        raise InputError(
            f"torchattacks is not usable ({error}); run: pip install 'robustcl[torchattacks]'"
        ) from error
    found = {name: kind for name, kind in vars(package).items() if inspect.isclass(kind)}
    return sorted(
        name
        for name, kind in found.items()
        if issubclass(kind, package.attack.Attack) and name not in NOT_ATTACKS
    )


def _class(name: str) -> Any:
    choose(name, torchattacks_names(), what="attack of torchattacks")
    return getattr(importlib.import_module("torchattacks"), name)


def _known(kind: Any) -> dict[str, Any]:
    parameters = inspect.signature(kind.__init__).parameters
    return {key: entry.default for key, entry in parameters.items()}


def _refuse_unknown(name: str, kind: Any, options: dict[str, Any]) -> None:
    known = {key: default for key, default in _known(kind).items() if key not in _SUPPLIED}
    for key, value in options.items():
        if key not in known:
            offered = ", ".join(known) or "no options"
            raise InputError(f"torchattacks:{name} has no option {key!r}; it takes {offered}")
        number = isinstance(known[key], int | float) and not isinstance(known[key], bool)
        if number and isinstance(value, str | bool):
            raise InputError(f"torchattacks:{name},{key} is {value!r}; expected a number")
        if isinstance(known[key], int) and isinstance(value, float) and key not in REAL:
            raise InputError(f"torchattacks:{name},{key} is {value}; expected a whole number")


def _arguments(
    name: str, kind: Any, images: Tensor, threat: Threat, options: dict[str, Any]
) -> dict[str, Any]:
    known = _known(kind)
    if threat.box != (0.0, 1.0):
        raise InputError(f"torchattacks:{name} takes the box (0, 1), not {threat.box}; use pgd")
    if threat.norm == "l1" and "norm" in known:  # FAB's code for it does not run
        raise InputError(
            f"torchattacks:{name} has no l1; use torchattacks:EADL1, which asks for no norm, or "
            "autoattack"
        )
    given = {"norm": PACKAGE_NORMS[threat.norm], **options}
    budget = next((key for key in ("eps", "max_epsilon") if key in known), None)
    if budget is None:
        return given
    eps = given[budget] = one_budget(threat, images, f"torchattacks:{name}")
    if "alpha" in known:
        given.setdefault("alpha", known["alpha"] / known[budget] * eps)
        steps = given.get("steps", known.get("steps"))
        if steps is not None and steps * given["alpha"] < 2.0 * eps * (1.0 - 1e-9):
            raise InputError(
                f"torchattacks:{name} with {steps} steps of {given['alpha']:g} cannot cross the "
                f"ball of eps {eps:g}; need steps x alpha >= 2 eps, so raise one of them"
            )
    return given


def _refuse_unfit(name: str, given: dict[str, Any], images: Tensor, classes: int) -> None:
    least = LEAST_CLASSES.get(name, 3 if given.get("loss") == "dlr" else 2)
    if classes < least:
        raise InputError(
            f"torchattacks:{name} uses a loss of {least} or more classes, the model has {classes}; "
            "use autoattack, which leaves that part out, or pgd"
        )
    channels, height, width = images.shape[1:]
    if name in THREE_CHANNELS and channels != 3:
        raise InputError(f"torchattacks:{name} takes images of 3 channels, not {channels}; use PGD")
    if name in ("Square", "AutoAttack") and given.get("norm") == "L2":
        side = height // 5
        if not side or (side > 1 and {(side, side)} != {*square_tiles(height, width)}):
            raise InputError(
                f"torchattacks:{name} fails in L2 at images of {height} x {width}; use autoattack"
            )


def _parameters(attack: Any) -> dict[str, Any]:
    plain = (bool, int, float, str)
    left_out = ("attack", "model_name", "attack_mode", "targeted", "verbose", "device", "seed")
    return {
        key: value
        for key, value in vars(attack).items()
        if isinstance(value, plain) and not key.startswith("_") and key not in left_out
    }


def _note(name: str, kind: Any, attack: Any, threat: Threat, *, averaged: bool) -> str:
    stated = ", ".join(
        f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in _parameters(attack).items()
    )
    notes = [f"torchattacks {version('torchattacks')} {name}({stated})"]
    if name == "AutoAttack":
        steps = attack._autoattack.attacks[0].steps
        notes.append(
            f"not the reference AutoAttack: APGD runs {steps} steps instead of {REFERENCE_STEPS}"
        )
    lines = (kind.__doc__ or "").splitlines()
    distance = next((x.split(":", 1)[1].strip() for x in lines if "Distance Measure" in x), "")
    if distance and threat.norm not in distance.lower():
        notes.append(f"made for {distance}, projected to the {threat.norm} ball")
    if averaged:
        notes.append("gradients are the average of the batch")
    return "; ".join([*notes, RESEEDS])
