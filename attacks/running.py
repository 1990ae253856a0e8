"""Run an attack and verify what it claims: an attack cannot lie."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from robustcl.attacks.attack_inputs import attack_inputs
from robustcl.attacks.confirmation import confirm
from robustcl.attacks.results import AttackResult, Candidates
from robustcl.attacks.searched import attack_name, known_attack, searched
from robustcl.core.checks import plain_tensor
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat


@torch.inference_mode(False)
def run_attack(
    attack: str | Callable[..., Candidates],
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    seeds: Sequence[int] | None = None,
    batch_size: int = 128,
    starts: Tensor | None = None,
    **options: Any,
) -> AttackResult:
    """Run an attack in batches of a fixed shape, project its points and measure them again.

    A point counts when it is finite, in the box, within eps (1 + 1e-6) and its margin is positive
    in a batch of the fixed shape: the deployed model is fooled. It has a radius where the margin is
    positive in float64 beyond its own rounding (`attacks.confirmed`), if need be after a push. The
    model is left as it was, also after an exception.

    Args:
        attack: A name in `ATTACKS`, or a function of the same kind.
        objective: What is raised.
        images: (B, C, H, W) in the box.
        threat: What is allowed.
        seeds: One seed per image; 0, 1, ... by default.
        batch_size: Images per model call.
        starts: (B, C, H, W) points at which an attack that takes them begins.
        **options: Options of the attack.

    Returns:
        The verified attack result.

    Raises:
        InputError: When there is no image, one is outside the box or not finite, seeds are too few,
            or starts do not fit.

    """
    _check_starts(attack, images, starts)
    inputs = attack_inputs(objective, images, threat, seeds, batch_size)
    begun = None if starts is None else plain_tensor(starts.detach())
    return confirm(searched(attack, inputs, starts=begun, **options), inputs)


def _check_starts(
    attack: str | Callable[..., Candidates], images: Tensor, starts: Tensor | None
) -> None:
    if starts is None:
        return
    if "starts" not in inspect.signature(known_attack(attack).function).parameters:
        raise InputError(f"{attack_name(attack)} takes no starts; boundary_walk does")
    if starts.shape != images.shape:
        raise InputError(
            f"starts of shape {tuple(starts.shape)} for images of shape {tuple(images.shape)}; "
            "give one point per image"
        )
