"""Estimate the radius by the norm of the Jacobian at the image."""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from robustcl.certify.claim import Claim, estimated
from robustcl.certify.gradients import GRADIENT_BATCH, output_gradients
from robustcl.certify.pairs import affine_head, margins, pairs
from robustcl.core.batching import fill
from robustcl.core.checks import check_images
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.modules import eval_mode

EXACT_UP_TO = 128  # outputs; above, power iteration


def jacobian_norm(
    classifier: Classifier, images: Tensor, *, norm: CertifiedNorm = "l2", iterations: int = 50
) -> Claim:
    """Estimate min_j margin_j / (|a_j|_2 |J_f(x)|), the classic formula.

    Nothing is proved: J_f is the Jacobian of the embedding at the image, not its largest value in
    the ball. |J_f| is the spectral norm for L2; for Linf it is
    min(sqrt(sum_i |row_i|_1^2), sqrt(D) |J_f|_2), which bounds the norm from Linf to L2. With more
    than 128 outputs the spectral norm comes from power iteration, and the rows are not formed.

    Args:
        classifier: A classifier with a prototype, linear or identity head.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'.
        iterations: Of the power iteration.

    Returns:
        An estimate about the model. A head that is not affine is refused.

    Reference:
        Tsuzuku et al., Lipschitz-Margin Training, NeurIPS 2018, proposition 1, with the local
        value for the Lipschitz constant and the pair's own |a_j| for sqrt(2).
    """
    weight, bias = affine_head(classifier, method="jacobian_norm")
    images = check_images(images, classifier.image_shape)
    batch = min(GRADIENT_BATCH, len(images))
    with torch.inference_mode(False), eval_mode(classifier):
        parts = []
        for chunk in images.split(batch):
            found = _sizes(classifier, fill(chunk, batch), norm, iterations, weight.shape[1])
            parts.append([values[: len(chunk)] for values in found])
    points, size = (torch.cat(column) for column in zip(*parts, strict=True))
    scores = points.double() @ weight.T + bias
    predicted = scores.argmax(dim=1)
    pair = pairs(weight, bias, predicted)
    slopes = torch.linalg.vector_norm(pair.directions, dim=2) * size[:, None]
    return estimated("jacobian_norm", norm, margins(pair, points) / slopes, scores, predicted)


def _sizes(
    classifier: Classifier, images: Tensor, norm: CertifiedNorm, iterations: int, width: int
) -> tuple[Tensor, Tensor]:
    # The embeddings, and the norms of their Jacobians.
    if width <= EXACT_UP_TO:
        points, rows = output_gradients(classifier.embeddings, images)
        return points, _exact(rows.flatten(2).double(), norm)
    points, size = _iterated(classifier, images, iterations)
    return points, size * (math.sqrt(images[0].numel()) if norm == "linf" else 1.0)


def _exact(jacobian: Tensor, norm: CertifiedNorm) -> Tensor:
    known = torch.isfinite(jacobian).flatten(1).all(dim=1)
    jacobian = jacobian.nan_to_num(0.0, 0.0, 0.0)  # eigvalsh stops at NaN, for the whole batch
    size = torch.linalg.eigvalsh(jacobian @ jacobian.mT)[:, -1].clamp_min(0.0).sqrt()
    if norm == "linf":
        rows = torch.linalg.vector_norm(jacobian.abs().sum(dim=2), dim=1)
        size = torch.minimum(rows, math.sqrt(jacobian.shape[2]) * size)
    return size.masked_fill(~known, torch.inf)


def _iterated(classifier: Classifier, images: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    function = classifier.embeddings
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(images[0].shape, generator=generator).to(images).expand_as(images)
    points, pull_back = cast(
        tuple[Tensor, Callable[[Tensor], tuple[Tensor]]], torch.func.vjp(function, images.detach())
    )
    size = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    for _ in range(iterations):
        length = torch.linalg.vector_norm(direction.flatten(1), dim=1).clamp_min(1e-30)
        direction = direction / length.view(-1, *[1] * (images.ndim - 1))
        _, image = cast(
            tuple[Tensor, Tensor], torch.func.jvp(function, (images.detach(),), (direction,))
        )
        size = torch.linalg.vector_norm(image.double(), dim=1)
        direction = pull_back(image)[0]
    return points.detach(), size.detach()
