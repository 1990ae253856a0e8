"""Certify every image by itself, and compare the model with what was bounded."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from robustcl.certify.agreement import (
    TOGETHER,
    alone,
    check_agreement,
    check_claim,
    lowered_scores,
    own_model,
)
from robustcl.certify.claim import Claim, abstained, join_claims
from robustcl.certify.graph import Network
from robustcl.certify.one_thread import each, one_thread, spare_threads
from robustcl.certify.preparation import PreparedModel, prepared_images
from robustcl.certify.verification_problem import (
    ImageEnclosures,
    VerificationProblem,
    enclose_images,
    state_problem,
)
from robustcl.core.classifier import Classifier

_NUMBERS = 1_000_000  # inside networks, that are enclosed at once where one by one is not needed
_LARGE = 5_000  # numbers inside a network, from which it pays to treat several images at a time


def certify_each(
    model: PreparedModel, images: Tensor, claim: Callable[[VerificationProblem], Claim]
) -> Claim:
    """Certify every image by itself, so that no verdict depends on the others.

    The predicted class is the model's own, in float64. At the images, alone and in a batch, and at
    points of the certified balls, the model's scores must lie in the enclosures.

    Args:
        model: From `ready`.
        images: (B, C, H, W) in [0, 1].
        claim: The certificate of one image.

    Returns:
        The claim about all images; abstained where the model's scores are not finite.
    """
    points = prepared_images(model.network, images)
    with torch.inference_mode(False), torch.no_grad():
        exact = own_model(model.classifier)
        with one_thread():
            singly = alone(exact, points)
        known = torch.isfinite(singly).all(dim=1)
        predicted = singly.nan_to_num(nan=-torch.inf).argmax(dim=1)

        def certify(row: int) -> tuple[Claim, Tensor, Tensor]:
            one = slice(row, row + 1)
            point = enclose_images(model, points[one])
            return claim(state_problem(model, point, predicted[one])), *_scores(model, point)

        parts = each(certify, range(len(points)), workers=workers(model.network))
        claims, middle, allowed = zip(*parts, strict=True)
        found = abstained(join_claims(claims), ~known)
        with one_thread() if workers(model.network) == 1 else nullcontext():
            check_claim(
                exact,
                partial(enclosed_scores, model),
                points,
                singly,
                (torch.cat(middle), torch.cat(allowed)),
                found,
            )
    return found


def compare_model(model: PreparedModel, classifier: Classifier, points: Tensor) -> None:
    """Refuse a model whose float64 scores, alone or in a batch, lie outside of the enclosures.

    Args:
        model: From `traced`.
        classifier: The user's model.
        points: (N, C, H, W), in or out of [0, 1].
    """
    with torch.inference_mode(False), torch.no_grad():
        exact = own_model(classifier)
        for part in points.detach().double().to(model.network.device).split(TOGETHER):
            check_agreement(exact, partial(enclosed_scores, model), part)


def enclosed_scores(model: PreparedModel, points: Tensor) -> tuple[Tensor, Tensor]:
    """Enclose the scores of the network that bounds are about.

    Args:
        model: From `ready`.
        points: (N, C, H, W) float64.

    Returns:
        (N, K) scores and the (N, K) differences that are allowed (see `lowered_scores`).
    """
    # A few at a time, as all values of a network are held.
    parts = points.split(max(1, _NUMBERS // model.network.size))
    found = each(
        lambda part: _scores(model, enclose_images(model, part)),
        parts,
        workers=workers(model.network),
    )
    middle, allowed = zip(*found, strict=True)
    return torch.cat(middle), torch.cat(allowed)


def _scores(model: PreparedModel, point: ImageEnclosures) -> tuple[Tensor, Tensor]:
    raw, drift = point.raw, point.drift
    return lowered_scores(raw, drift, model.weight, model.bias, on_sphere=model.on_sphere)


def workers(network: Network) -> int:
    """Say how many images are treated at a time.

    Args:
        network: The steps.

    Returns:
        torch's number of threads for large networks on a CPU, else 1.
    """
    is_large = network.size >= _LARGE and network.device.type == "cpu"
    return spare_threads() if is_large else 1
