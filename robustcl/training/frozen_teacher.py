"""Freeze the teacher of adversarial training, and check that what it needs is there."""

import copy

import torch

from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError
from robustcl.training.recipe import TrainRecipe
from robustcl.training.robust._deacl import Deacl
from robustcl.training.robust.attacked import Attacked
from robustcl.training.robust.inner_attack import InnerAttack


def frozen_teacher(
    recipe: TrainRecipe,
    attack: InnerAttack | None,
    teacher: Encoder | None,
    size: int,
    device: torch.device,
) -> Encoder | None:
    """Return a frozen copy of the teacher, once attack and teacher are there where needed.

    Args:
        recipe: Its method counts.
        attack: What finds attacked views, or None.
        teacher: The teacher, or None.
        size: d of the student's embedding.
        device: Where to train.

    Returns:
        The copy on the device, in eval mode; None where the method has no teacher.

    Raises:
        InputError: When attack or teacher are missing, or the teacher's embedding is of another
            size.
    """
    method = recipe.method
    if isinstance(method, Attacked) and attack is None:
        raise InputError(
            f"robust {recipe.robust!r} needs an attack; pass attack=attacks.inner_ascent"
        )
    if not isinstance(method, Deacl):
        return None
    if teacher is None:
        raise InputError("deacl needs a teacher; pass an encoder trained without attack")
    teacher = copy.deepcopy(teacher).to(device).eval().requires_grad_(False)
    with torch.no_grad():
        found = int(teacher(torch.zeros(2, *teacher.image_shape, device=device)).shape[1])
    if found != size:
        raise InputError(
            f"the teacher's embedding has {found} numbers, the student's {size}, and the two are "
            "compared; use the same architecture"
        )
    return teacher
