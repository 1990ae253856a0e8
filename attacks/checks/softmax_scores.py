"""Tell whether scores are probabilities."""

from robustcl.attacks.checks.flag import Flag
from robustcl.attacks.checks.subject import Subject

TOLERANCE = 1e-4


def softmax_scores(subject: Subject) -> Flag | None:
    """Look whether the scores of every image are nonnegative and sum to 1.

    Args:
        subject: Model and images.

    Returns:
        The flag 'softmax_scores', or None.
    """
    scores = subject.scores
    sums = (scores.double().sum(dim=1) - 1.0).abs()
    if not bool((scores >= 0).all() and (sums < TOLERANCE).all()):
        return None
    return Flag(
        "softmax_scores",
        "The scores look like probabilities: they are nonnegative and sum to 1. Their gradients "
        "vanish where the model is sure; give the scores before the softmax.",
        (),
        10,
    )
