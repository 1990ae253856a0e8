"""Estimate the radius by the gradients at the image."""

import torch
from torch import Tensor

from robustcl.certify.claim import Claim, estimated
from robustcl.certify.gradients import pairwise_slopes
from robustcl.core.checks import check_images
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.modules import eval_mode


def first_order(classifier: Classifier, images: Tensor, *, norm: CertifiedNorm = "l2") -> Claim:
    """Estimate min_j (s_y - s_j) / |grad (s_y - s_j)|_q at the image.

    Nothing is proved: the gradient may grow inside the ball. For scores that are affine in the
    image it is the exact distance to the decision boundary, without the pixel box.

    Args:
        classifier: Any classifier.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'; q is its dual.

    Returns:
        An estimate about the model.

    Reference:
        Hein and Andriushchenko, Formal Guarantees on the Robustness of a Classifier, NeurIPS
        2017, theorem 2.1, with the maximum over the ball replaced by the value at the center.
    """
    images = check_images(images, classifier.image_shape)
    with eval_mode(classifier):
        scores, norms = pairwise_slopes(classifier, images, norm=norm)
    predicted = scores.argmax(dim=1)
    rows = torch.arange(len(scores), device=scores.device)
    slopes = norms[rows, predicted]
    gaps = (scores.gather(1, predicted[:, None]) - scores).double()
    return estimated("first_order", norm, gaps / slopes, scores, predicted)
