"""Prepare a model for deterministic certificates, once for any number of images."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcl.certify.agreement import own_model, refuse_hidden
from robustcl.certify.bounds.networks import NetworkLipschitzBound, prepared_lipschitz_bound
from robustcl.certify.bounds.plain_modules import check_still, check_values, no_draws, state_of
from robustcl.certify.bounds.tracing import trace
from robustcl.certify.graph import Network
from robustcl.certify.norms import check_certified_norm
from robustcl.certify.one_thread import one_thread
from robustcl.certify.pairs import affine_head
from robustcl.certify.rounding import row_lengths
from robustcl.core.checks import check_images
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.core.hashes import network_hash
from robustcl.models.inference_views import RandomViews
from robustcl.models.multi_view import MultiView

_CHEAP = 50_000  # numbers per image inside the network, below which float64 is used everywhere
HEAD_POINTS = 64  # embeddings of each size at which a head is compared with its affine form


@dataclass(frozen=True, eq=False)
class PreparedModel:
    """Hold what certificates need of a model, whatever the images.

    Args:
        norm: CertifiedNorm of the perturbation.
        classifier: The user's model, which is asked again at every claim.
        network: The encoder's steps in float64.
        fast: The same in the type that bounds over balls are computed in.
        bound: The product of its layers' norms.
        weight: (K, d) rows of the head, float64.
        bias: (K,) offsets.
        on_sphere: Whether the head sees h / |h|.
        weights: Hash of the model's numbers (see `network_hash`).
    """

    norm: CertifiedNorm
    classifier: Classifier
    network: Network
    fast: Network
    bound: NetworkLipschitzBound
    weight: Tensor
    bias: Tensor
    on_sphere: bool
    weights: str


def prepared_model(classifier: Classifier, *, norm: CertifiedNorm, method: str) -> PreparedModel:
    """Write a model as steps once, for any number of images.

    Args:
        classifier: A classifier with a prototype, linear or identity head.
        norm: 'l2' or 'linf'.
        method: Who asks, for messages. A head that is not affine, and a network without known
            norms, are refused.

    Returns:
        The traced model.
    """
    exact = own_model(classifier)
    refuse_views(classifier, method=method)
    weight, bias = affine_head(classifier, method=method)
    _check_head(exact, weight, bias)
    with one_thread():
        network = trace(classifier.encoder, drops_normalization=classifier.normalizes)
        bound = prepared_lipschitz_bound(network, norm=check_certified_norm(norm))
    fast = network.in_type(_fast_type(network))
    weights = network_hash(classifier)
    return PreparedModel(
        norm, classifier, network, fast, bound, weight, bias, classifier.normalizes, weights
    )


def _check_head(exact: Classifier, weight: Tensor, bias: Tensor) -> None:
    # Whether the head computes W f + b, on embeddings of several sizes.
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(HEAD_POINTS, weight.shape[1], generator=generator, dtype=torch.float64)
    points = torch.cat([draws * scale for scale in (0.1, 1.0, 10.0, 1e3)]).to(weight.device)
    with torch.inference_mode(False), torch.no_grad():
        state = state_of(exact.head)
        with no_draws():
            found = exact.head(points.clone())
        wanted = points @ weight.T + bias
        check_still(exact.head, state)
        check_values(exact.head, points)
    sizes = row_lengths(weight)[None] * row_lengths(points)[:, None] + bias.abs()
    if found.shape != wanted.shape or not bool(((found - wanted).abs() <= 1e-9 * sizes).all()):
        raise UnsupportedError(
            f"the head {type(exact.head).__name__} does not compute what its affine() says; "
            "smoothing:form=vote certifies any classifier"
        )


def ready(
    classifier: Classifier,
    *,
    norm: CertifiedNorm,
    method: str,
    prepared: PreparedModel | None = None,
) -> PreparedModel:
    """Return a traced model that may be used for a norm.

    Args:
        classifier: The model.
        norm: CertifiedNorm of the perturbation.
        method: Who asks, for messages.
        prepared: From `prepared_model`; None to trace now.

    Returns:
        The traced model.

    Raises:
        InputError: When it was prepared for another norm, or the model's numbers have changed.
    """
    if prepared is None:
        return prepared_model(classifier, norm=norm, method=method)
    if not isinstance(prepared, PreparedModel):
        raise InputError(
            f"prepared is a {type(prepared).__name__}; give what `prepared_model` returns"
        )
    if prepared.norm != norm:
        raise InputError(f"the model was prepared for {prepared.norm}, not {norm}; prepare again")
    refuse_hidden(classifier)
    if prepared.weights != network_hash(classifier):
        raise InputError("prepared is of a model with other numbers; prepare this one again")
    if prepared.fast.dtype != torch.float64 and _fast_type(prepared.network) == torch.float64:
        prepared = replace(prepared, fast=prepared.network)  # products are rounded further by now
    return replace(prepared, classifier=classifier)


def refuse_views(classifier: Classifier, *, method: str) -> None:
    """Refuse a multi-view model, whose encoder alone is another model.

    Args:
        classifier: The model.
        method: Who asks, for the message.

    Raises:
        UnsupportedError: When it has several views.
    """
    if isinstance(classifier, MultiView | RandomViews):
        raise UnsupportedError(
            f"{method} is about one view, not a multi-view model; use multi_view, or "
            "smoothing:form=vote"
        )


def _fast_type(network: Network) -> torch.dtype:
    # On a CPU convolutions are far faster in float32, but its rounding costs a part of the radius,
    # so it is for large networks only.
    sizes = [math.prod(step.shape) for step in network.steps[2:] if len(step.shape) == 3]
    is_cheap = max(sizes, default=0) < _CHEAP or network.device.type != "cpu"
    # Products that are rounded to bfloat16 or TF32 would void what is counted as rounding.
    mkldnn = torch.backends.mkldnn
    settings = (torch.backends, getattr(mkldnn, "conv", None), getattr(mkldnn, "matmul", None))
    lowered = {getattr(place, "fp32_precision", "none") for place in settings} - {"none", "ieee"}
    if is_cheap or lowered or torch.get_float32_matmul_precision() != "highest":
        return torch.float64
    return torch.float32


def prepared_images(network: Network, images: Tensor) -> Tensor:
    """Check images and bring them to the network's device in float64.

    Args:
        network: The steps.
        images: (B, C, H, W) in [0, 1].

    Returns:
        The images.
    """
    channels, height, width = network.steps[0].shape
    checked = check_images(images, (channels, height, width))
    with torch.inference_mode(False):
        return checked.detach().double().to(network.device)
