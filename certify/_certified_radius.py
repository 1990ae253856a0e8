"""Combine the sound certificates, other class by other class."""

from contextlib import suppress
from typing import Literal

import torch
from torch import Tensor

from robustcl.certify._crown import Effort, crown_pairs
from robustcl.certify._local import SMALL, first_radii, local_pairs
from robustcl.certify._product import product_pairs
from robustcl.certify.bounds.refined_bounds import LARGEST
from robustcl.certify.claim import NO_RIVAL, Claim, nearest_other_class
from robustcl.certify.image_by_image import certify_each
from robustcl.certify.preparation import PreparedModel, ready
from robustcl.certify.verification_problem import VerificationProblem
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError, UnsupportedError

STAIRS = 16
STEPS = 8
_TINY = 512  # numbers inside a network, in which slopes and splits cost 10 to 40 ms per image


def certified_radius(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: CertifiedNorm = "l2",
    methods: Literal["sound"] = "sound",
    slope_steps: int | None = None,
    splits: int | None = None,
    units: int | None = None,
    prepared: PreparedModel | None = None,
) -> Claim:
    """Certify by every deterministic method and keep the largest radius of each other class.

    Claimed of the real-arithmetic network with the stored weights in eval mode; perturbations of
    norm strictly below the radius do not change its predicted class, whether or not they leave
    [0, 1]. Guarantee: deterministic. The radius is min over all other classes j of the largest
    radius that any of `product`, `crown` and `local` proves against j. Each starts from what the
    one before has proved, and looks only at other classes that can still be the nearest. A network
    whose activations have a global norm alone is certified by `product` alone.

    Args:
        classifier: Any classifier with an affine head, also one from `Classifier.from_scores`.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'.
        methods: 'sound': all deterministic methods about the model itself.
        slope_steps: Of `crown`, for larger radii of small networks at several times the cost; None
            for 5 in networks of at most `_TINY` numbers, else 0.
        splits: Likewise; None for 2 in such networks, else 0.
        units: Of `crown` and `local`; None for what is affordable.
        prepared: `traced(classifier, norm=norm, method="certified_radius")`, once per model.

    Returns:
        A deterministic claim whose `method` names, per image, the method whose radius against the
        nearest other class is the one returned. A network that no sound method can treat is
        refused.

    Raises:
        InputError: When `methods` is something else.
    """
    if methods != "sound":
        raise InputError(f"methods {methods!r} is unknown; use 'sound', or certificate() for one")
    model = ready(classifier, norm=norm, method="certified_radius", prepared=prepared)
    is_tiny = model.network.size <= _TINY
    slope_steps = 5 * is_tiny if slope_steps is None else slope_steps
    splits = 2 * (is_tiny and slope_steps > 0) if splits is None else splits
    effort = Effort(STEPS, slope_steps, splits, units)
    return certify_each(model, images, lambda task: best_claim(task, effort))


def best_claim(task: VerificationProblem, effort: Effort) -> Claim:
    """Combine the methods for stated problems.

    Args:
        task: What is to be proved.
        effort: How hard `crown` tries.

    Returns:
        The claim.
    """
    model = task.traced
    stages = [product_pairs(task)]
    with suppress(UnsupportedError):
        ceiling = first_radii(task)
        stages.append(crown_pairs(task, stages[-1], ceiling, effort))
        probe = model.network.size > SMALL
        known = stages[-1]
        units = LARGEST if effort.units is None else effort.units
        stages.append(local_pairs(task, known, ceiling, stairs=STAIRS, units=units, probe=probe))
    # Each stage keeps what the one before has proved, so the first of the largest has won.
    winner = torch.stack(stages).argmax(dim=0)
    radius, rival = nearest_other_class(stages[-1], task.predicted)
    names = ("product", "crown", "local")
    rows = torch.arange(len(radius), device=radius.device)
    chosen = winner[rows, rival.clamp_min(0)].masked_fill(rival == NO_RIVAL, 0)
    return Claim(
        tuple(names[int(number)] for number in chosen),
        model.norm,
        "deterministic",
        "model",
        task.predicted,
        radius,
        rival,
    )
