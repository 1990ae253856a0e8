"""Certify by angles: how far h is from the edge of its class's cone, over the product of norms."""

import torch
from torch import Tensor

from robustcl.certify.claim import Claim, nearest_other_class
from robustcl.certify.image_by_image import certify_each
from robustcl.certify.preparation import PreparedModel, ready
from robustcl.certify.rounding import round_up, row_lengths
from robustcl.certify.verification_problem import VerificationProblem
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import UnsupportedError

_ROUNDING = 1e-10
ARCSINE = 1e-7  # asin loses half the digits near 1
_DOWN = 1.0 / round_up(1.0)


def geodesic(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: CertifiedNorm = "l2",
    prepared: PreparedModel | None = None,
) -> Claim:
    """Certify that no perturbation of norm below the radius changes the predicted class.

    Claimed of the real-arithmetic network with the stored weights in eval mode, for all
    perturbations in pixel units, whether or not they leave [0, 1]. Guarantee: deterministic.

    On the sphere class j is ahead only outside of a cone around a_j. The angle of h to its edge is
    phi_j = arcsin(a_j.f/|a_j|) + arcsin(c_j/|a_j|), the distance |h| sin(min(phi_j, pi/2)), and h
    moves by at most L_h times the perturbation; so the radius is the minimum of
    |h| sin(min(phi_j, pi/2)) / L_h over all j. It is the refinement by which `product` treats
    heads with offsets, where it is never below a_j.f + c_j over (|a_j| + |c_j|) L_h; without
    offsets `product` compares it with the pair's own direction.

    Args:
        classifier: A classifier with a prototype or linear head on the sphere.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'.
        prepared: `traced(classifier, norm=norm, method="geodesic")`, once per model.

    Returns:
        A deterministic claim about the model. Scores that are not read off the sphere are refused.

    Reference:
        Hein and Andriushchenko, NeurIPS 2017, theorem 2.1, for the path bound; the cone is ours.
    """
    check_sphere(classifier)
    model = ready(classifier, norm=norm, method="geodesic", prepared=prepared)

    def claim(task: VerificationProblem) -> Claim:
        radius, rival = nearest_other_class(geodesic_pairs(task), task.predicted)
        return Claim("geodesic", norm, "deterministic", "model", task.predicted, radius, rival)

    return certify_each(model, images, claim)


def check_sphere(classifier: Classifier) -> None:
    """Refuse a head that does not read h / |h|.

    Args:
        classifier: The model.

    Raises:
        UnsupportedError: When angles say nothing about its classes.
    """
    if not classifier.normalizes:
        raise UnsupportedError(
            f"geodesic compares angles on the sphere, and {type(classifier.head).__name__} reads "
            "raw scores; use product, crown or sound"
        )


def geodesic_pairs(task: VerificationProblem) -> Tensor:
    """Divide the distance of h to the edge of each class's cone by the product of norms.

    Args:
        task: What is to be proved, on the sphere.

    Returns:
        (B, K) radii inside which class j cannot overtake.
    """
    lengths = row_lengths(task.pair.directions)
    unit, size = task.unit, task.size[:, None]
    cosine = torch.einsum("bkd,bd->bk", task.pair.directions, unit) / lengths
    threshold = -task.pair.offsets / lengths
    angle = torch.asin(cosine.clamp(-1, 1)) - torch.asin(threshold.clamp(-1, 1))
    angle = (angle - ARCSINE).clamp(0.0, torch.pi / 2)
    total = task.traced.bound.total
    slack = task.drift[:, None] + _ROUNDING * size
    radii = ((size * torch.sin(angle) - slack) * _DOWN).clamp_min(0.0) / total
    radii = torch.where(threshold >= 1.0, torch.zeros_like(radii), radii)
    always = (threshold < -1.0) | ((lengths == 0) & (task.pair.offsets > 0))
    # Even where h = 0 is reached, no direction of h lets j win; only h = 0 itself is undefined.
    return torch.where(always, ((size - slack) * _DOWN).clamp_min(0.0) / total, radii)
