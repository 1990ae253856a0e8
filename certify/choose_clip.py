"""Choose t of the clipped smoothing for a set of images."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustcl.certify.check_smoothing import check_smoothing
from robustcl.certify.choose_pairing import best_clip
from robustcl.certify.smoothed_margins import base_function, smoothed
from robustcl.certify.smoothing_samples import noise_streams, noisy_outputs
from robustcl.core.classifier import Classifier
from robustcl.core.modules import frozen


def choose_clip(
    classifier: Classifier,
    images: Tensor,
    *,
    seeds: Sequence[int] | None = None,
    sigma: float = 0.25,
    n: int = 1000,
    n_select: int = 100,
    alpha: float = 0.001,
    batch_size: int = 256,
) -> float:
    """Choose one t for `smoothing:form=clip` on images that are not certified afterwards.

    Every t is another smoothed classifier. With one t for all images the radii are about one
    classifier, as they are not where t is chosen per image. Nothing is claimed here.

    Args:
        classifier: The base classifier, with a prototype or linear head.
        images: (B, C, H, W) in [0, 1], for instance from the training set.
        seeds: One seed per image; 0, 1, ... by default.
        sigma: Standard deviation of the noise.
        n: Samples that will bound the margins.
        n_select: Samples used here, per image.
        alpha: Level of the certificate to come.
        batch_size: Noisy images per model call.

    Returns:
        t with the largest radius foreseen, on average over the images; those without a class that
        wins all pairs count 0.
    """
    check_smoothing(classifier, sigma=sigma, n=n, n_select=n_select, alpha=alpha, form="clip")
    terms = smoothed(classifier, form="clip", sigma=sigma, clip=0.0)
    images = images.to(classifier.encoder.mean.device)
    with torch.no_grad(), frozen(classifier):
        outputs = noisy_outputs(
            base_function(classifier, "clip"),
            images,
            noise_streams(images, seeds),
            sigma=sigma,
            count=n_select,
            batch_size=batch_size,
        )
        samples = [rows.numpy() for rows in outputs]
    return best_clip(samples, terms, n=n, alpha=alpha)
