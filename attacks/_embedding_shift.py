"""Attack the embedding, without labels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustcl.attacks._apgd import ApgdJob, ascend_by_apgd
from robustcl.attacks.results import Candidates
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective, displace
from robustcl.core.threat import Threat


def embedding_shift(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    restarts: int = 2,
    seeds: Sequence[int] | None = None,
    batch_size: int = 128,
) -> Candidates:
    """Move the embedding as far as possible: raise |f(x + v) - f(x)| by APGD from random starts.

    The gradient of the drift is 0 at x itself, hence the random starts. Labels, scores and the
    objective's margin are not used; `run` measures the margin afterwards, so on `misclassify` this
    says how far a label-free adversary gets, and on `displace` it is the strongest attack here.

    Args:
        objective: Its classifier is attacked.
        images: (B, C, H, W) in the box.
        threat: The ball, with one budget or one per image.
        steps: Steps per run.
        restarts: Runs.
        seeds: One seed per image; 0, 1, ... by default.
        batch_size: Images per model call.

    Returns:
        The points of the largest drift, and the gradients spent.

    Raises:
        InputError: When the objective has no classifier, or there are no steps or runs.

    Reference:
        Cemgil et al., Adversarially Robust Representations with Smooth Encoders, ICLR 2020.
    """
    if objective.classifier is None:
        raise InputError("embedding_shift needs an encoder; use an objective with a classifier")
    if steps < 1 or restarts < 1 or batch_size < 1:
        raise InputError(
            f"embedding_shift with steps={steps}, restarts={restarts}, batch_size={batch_size} "
            "does nothing; use 1 or more"
        )
    drift = displace(objective.classifier, images, threshold=0.0, batch_size=batch_size)
    nobody = torch.zeros(len(images), 0, dtype=torch.int64, device=images.device)
    job = ApgdJob(drift, images, threat, "margin", nobody, steps, restarts, "shift", stops=False)
    return ascend_by_apgd(
        job, list(range(len(images)) if seeds is None else seeds), batch_size=batch_size
    )
