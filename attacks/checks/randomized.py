"""Tell whether a model gives the same scores twice."""

import torch

from robustcl.attacks.checks.flag import Flag
from robustcl.attacks.checks.subject import Subject
from robustcl.attacks.counted import generators_seeded

REPEATS = 5
TOLERANCE = 1e-4  # of the largest gap between two scores of an image


def randomized(subject: Subject) -> Flag | None:
    """Call the model five times and compare the scores.

    Args:
        subject: Model and images.

    Returns:
        The flag 'randomized' with the images whose scores differ by more than 1e-4 of the largest
        gap between two classes, or None.

    Reference:
        Croce et al., Evaluating the Adversarial Robustness of Adaptive Test-time Defenses, ICML
        2022; the check of the reference AutoAttack.
    """
    with torch.no_grad(), generators_seeded(subject.seeds):
        repeats = torch.stack([subject.classifier(subject.images) for _ in range(REPEATS)])
    repeats = repeats.nan_to_num()
    spread = (repeats.amax(dim=0) - repeats.amin(dim=0)).amax(dim=1)
    gap = (repeats.amax(dim=2) - repeats.amin(dim=2)).max()
    rows = torch.nonzero(spread > TOLERANCE * gap)[:, 0].tolist()
    if not rows:
        return None
    return Flag(
        "randomized",
        f"The model is randomized: on {len(rows)} of {len(spread)} images {REPEATS} calls give "
        f"scores that differ by up to {float(spread.max() / gap):.2g} of their range. Attack the "
        "mean over at least 20 draws (attacks.expectation, or autoattack:version=rand) and judge "
        "by fresh draws.",
        tuple(rows),
        8,
    )
