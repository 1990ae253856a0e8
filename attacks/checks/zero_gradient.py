"""Find images from which no gradient leads."""

import torch

from robustcl.attacks.checks.flag import Flag
from robustcl.attacks.checks.subject import Subject


def zero_gradient(subject: Subject) -> Flag | None:
    """Look for a gradient of the margin that is zero or not finite at the image itself.

    Args:
        subject: Model and images.

    Returns:
        The flag 'zero_gradient' with these images, or None.
    """
    gradient = subject.gradient(subject.images).flatten(1)
    dead = ~torch.isfinite(gradient).all(dim=1) | (gradient == 0).all(dim=1)
    rows = torch.nonzero(dead)[:, 0].tolist()
    if not rows:
        return None
    return Flag(
        "zero_gradient",
        f"On {len(rows)} of {len(gradient)} images the gradient is zero or not finite where an "
        "attack starts, so gradient attacks cannot move. Give the scores before they saturate or "
        "are rounded, or attack by transfer from a twin without that part.",
        tuple(rows),
        11,
    )
