"""Check a model before it is attacked."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustcl.attacks.checks.answers import constant, quantized_input, randomized, softmax_scores
from robustcl.attacks.checks.gradients import gradient_masking, takes_gradients, zero_gradient
from robustcl.attacks.checks.known_answers import known_answer_missed
from robustcl.attacks.checks.subject import Flag, Subject
from robustcl.attacks.forward_passes import generators_seeded
from robustcl.core.checks import plain_tensor
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.threat import Threat


@torch.inference_mode(False)
def model_flags(
    classifier: Classifier,
    images: Tensor,
    threat: Threat,
    *,
    seeds: Sequence[int] | None = None,
) -> tuple[Flag, ...]:
    """Warn of what makes attacks on a model misleading.

    It takes about seventy forward and twenty backward passes of the one batch of images, eight of
    them in float64 on a copy. The model is left as it was, also after an exception.

    Args:
        classifier: The model; it must run in float64 as well.
        images: (B, C, H, W) in [0, 1], a few dozen; they are one batch.
        threat: The ball in which attacks are going to search.
        seeds: One seed per image; 0, 1, ... by default.

    Returns:
        The flags raised, in the order of `NAMES`, at most one of each; none on ordinary models.

    Raises:
        InputError: When there are no images, or seeds are too few.
    """
    chosen = tuple(range(len(images)) if seeds is None else seeds)
    if not len(images) or len(chosen) != len(images):
        raise InputError(
            f"{len(images)} images with {len(chosen)} seeds; give at least one, paired"
        )
    images = plain_tensor(images)
    with eval_mode(classifier):
        inner = takes_gradients(classifier, images)
        with torch.no_grad(), generators_seeded(chosen):
            scores = classifier(images)
        subject = Subject(classifier, images, scores, threat, chosen)
        exact = subject.exact()
        softmax = softmax_scores(subject)
        still = constant(exact, logarithm=softmax is not None)
        found = (
            inner,
            randomized(subject),
            softmax,
            zero_gradient(subject),
            quantized_input(still),
            gradient_masking(subject, exact, still),
            known_answer_missed(subject),
        )
    return tuple(flag for flag in found if flag is not None)
