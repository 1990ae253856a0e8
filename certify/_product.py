"""Certify by the product of guaranteed layer norms."""

import torch
from torch import Tensor

from robustcl.certify._geodesic import geodesic_pairs
from robustcl.certify.claim import Claim, nearest_other_class
from robustcl.certify.image_by_image import certify_each
from robustcl.certify.preparation import PreparedModel, ready
from robustcl.certify.rounding import round_up
from robustcl.certify.verification_problem import VerificationProblem
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier

_DOWN = 1.0 / round_up(1.0)


def product(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: CertifiedNorm = "l2",
    prepared: PreparedModel | None = None,
) -> Claim:
    """Certify that no perturbation of norm below the radius changes the predicted class.

    Claimed of the real-arithmetic network with the stored weights in eval mode, for all
    perturbations in pixel units, whether or not they leave [0, 1]. Guarantee: deterministic.

    With h the raw embedding, L the product of layer norms up to the last linear layer W and
    a_j = w_y - w_j, c_j = b_y - b_j, the radius is the minimum over all j of
    * prototypes, where dropping the normalization changes no decision: a_j.h / (L |a_j^T W|_q);
    * on the sphere, with offsets or without, the distance to the edge of a cone: see `geodesic`;
    * scores as they are: (a_j.h + c_j) / (L |a_j^T W|_q).

    Evaluation is in float64. The margin is first lowered by a running bound of the rounding of the
    forward pass (see `center_regions`); layer norms are rounded up.

    Args:
        classifier: A classifier with a prototype, linear or identity head.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'.
        prepared: `traced(classifier, norm=norm, method="product")`, once per model.

    Returns:
        A deterministic claim about the model. A head that is not affine, or a network whose
        layers have no known norm, is refused.

    Reference:
        Tsuzuku et al., Lipschitz-Margin Training, NeurIPS 2018; Szegedy et al., Intriguing
        Properties of Neural Networks, ICLR 2014, section 4.3.
    """
    model = ready(classifier, norm=norm, method="product", prepared=prepared)

    return certify_each(model, images, product_claim)


def product_claim(task: VerificationProblem) -> Claim:
    """Claim what layer norms prove for stated problems.

    Args:
        task: What is to be proved.

    Returns:
        The claim.
    """
    radius, rival = nearest_other_class(product_pairs(task), task.predicted)
    norm = task.traced.norm
    return Claim("product", norm, "deterministic", "model", task.predicted, radius, rival)


def product_pairs(task: VerificationProblem) -> Tensor:
    """Divide margins by the product of layer norms, for every other class.

    Args:
        task: What is to be proved.

    Returns:
        (B, K) radii inside which class j cannot overtake.
    """
    bound = task.traced.bound
    slopes = bound.along(task.directions).clamp_min(1e-300)
    flat = task.margins.clamp_min(0.0) / slopes * _DOWN
    flat = torch.where(task.bends > 0, torch.zeros_like(flat), flat)
    if not task.traced.on_sphere:
        return flat
    return torch.maximum(flat, geodesic_pairs(task))
