"""Certify by the product of guaranteed layer norms."""

import copy

import torch
from torch import Tensor

from certify.bounds.network_norm import NetworkNorm, network_norm
from certify.claim import Claim, nearest_rival
from certify.pairs import Pairs, affine_head, margins, pairs
from robustcl.classifier import Classifier
from robustcl.errors import InputError
from robustcl.frozen import frozen
from robustcl.threat import Norm

ROUNDING = 1e-10


def product(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: Norm = "l2",
    prepared: NetworkNorm | None = None,
) -> Claim:
    """Certify that no perturbation of norm below the radius changes the predicted class.

    Claimed of the real-arithmetic network with the stored weights in eval mode, for all
    perturbations in pixel units, whether or not they leave [0, 1]. Guarantee: deterministic.

    With h the raw embedding, L the product of layer norms up to the last linear layer W and
    a_j = w_y - w_j, c_j = b_y - b_j, the radius is the minimum over all j of
    * prototypes, where dropping the normalization changes no decision: a_j.h / (L |a_j^T W|_q);
    * a linear probe on the sphere: |h| sin(min(phi_j, pi/2)) / L_h, the distance of h to the edge
      of the cone of class y against j, phi_j = arcsin(a_j.f/|a_j|) + arcsin(c_j/|a_j|);
    * scores as they are: (a_j.h + c_j) / (L |a_j^T W|_q).

    Evaluation is in float64. The margin is first lowered by 1e-10 |a_j| max(|h|, L_h |x|), which
    allows for rounding of the forward pass; layer norms are rounded up (see `layer_norm`).

    Args:
        classifier: A classifier with a prototype, linear or identity head.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'.
        prepared: `network_norm(classifier.encoder, norm=norm)`, to be computed once per model.

    Returns:
        A deterministic claim about the model. A head that is not affine, or a network whose
        layers have no known norm, is refused.

    Raises:
        InputError: When `prepared` was computed for the other norm.

    Reference:
        Tsuzuku et al., Lipschitz-Margin Training, NeurIPS 2018; Szegedy et al., Intriguing
        Properties of Neural Networks, ICLR 2014, section 4.3.
    """
    weight, bias = affine_head(classifier, method="product")
    bound = prepared or network_norm(classifier.encoder, norm=norm)
    if bound.norm != norm:
        raise InputError(f"the prepared norm is for {bound.norm}, not {norm}")
    raw = _raw_in_double(classifier, images)
    points = raw / torch.linalg.vector_norm(raw, dim=1, keepdim=True)
    points = points if classifier.normalizes else raw
    predicted = (points @ weight.T + bias).argmax(dim=1)
    pair = pairs(weight, bias, predicted)
    radii = _pair_radii(bound, pair, raw, images, on_sphere=classifier.normalizes)
    radius, rival = nearest_rival(radii, predicted)
    return Claim("product", norm, "deterministic", "model", predicted, radius, rival)


def _pair_radii(
    bound: NetworkNorm, pair: Pairs, raw: Tensor, images: Tensor, *, on_sphere: bool
) -> Tensor:
    directed = bound.along(pair.directions)
    lengths = torch.linalg.vector_norm(pair.directions, dim=2)
    size = torch.linalg.vector_norm(raw, dim=1)
    order = 2.0 if bound.norm == "l2" else torch.inf
    reach = bound.total * torch.linalg.vector_norm(images.double().flatten(1), order, dim=1)
    slack = ROUNDING * torch.maximum(size, reach)[:, None]
    plain = margins(pair, raw) - slack * (lengths + pair.offsets.abs())
    flat = torch.where(plain > 0, plain / directed, torch.zeros_like(plain))
    if not on_sphere:
        return flat
    cone = _cone_radii(bound, pair, raw, lengths, slack)
    return torch.where(pair.offsets == 0, flat, cone)


def _cone_radii(
    bound: NetworkNorm, pair: Pairs, raw: Tensor, lengths: Tensor, slack: Tensor
) -> Tensor:
    size = torch.linalg.vector_norm(raw, dim=1)[:, None]
    cosine = torch.einsum("bkd,bd->bk", pair.directions, raw) / (lengths * size)
    threshold = -pair.offsets / lengths
    angle = torch.asin(cosine.clamp(-1, 1)) - torch.asin(threshold.clamp(-1, 1))
    # asin loses half the digits near 1; 1e-7 covers that loss.
    angle = (angle - 1e-7).clamp(0.0, torch.pi / 2)
    radii = (size * torch.sin(angle) - slack).clamp_min(0.0) / bound.total
    radii = torch.where(threshold >= 1.0, torch.zeros_like(radii), radii)
    always = (threshold < -1.0) | ((lengths == 0) & (pair.offsets > 0))
    # Even where h = 0 is reached, no direction of h lets j win; only h = 0 itself is undefined.
    return torch.where(always, ((size - slack) / bound.total).clamp_min(0.0), radii)


def _raw_in_double(classifier: Classifier, images: Tensor) -> Tensor:
    if images.dtype == torch.float64 and next(classifier.encoder.buffers()).dtype == images.dtype:
        encoder = classifier.encoder
    else:
        encoder = copy.deepcopy(classifier.encoder).double()
    with torch.no_grad(), frozen(encoder):
        return encoder(images.double())
