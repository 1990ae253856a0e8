"""Combine the sound certificates."""

from typing import Literal

import torch
from torch import Tensor

from certify.claim import Claim
from certify.methods import METHODS, certificate
from robustcl.classifier import Classifier
from robustcl.errors import InputError, UnsupportedError
from robustcl.specification import Specification
from robustcl.threat import Norm, check_norm


def certified_radius(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: Norm = "l2",
    methods: Literal["sound"] = "sound",
) -> Claim:
    """Certify by every deterministic method and keep the largest radius of each image.

    Claimed of the real-arithmetic model; perturbations of norm strictly below the radius do not
    change its predicted class. Methods that cannot treat the network are left out.

    Args:
        classifier: Any classifier, also one from `Classifier.from_scores`.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'.
        methods: 'sound': all deterministic methods about the model itself.

    Returns:
        A deterministic claim whose `method` names the method that won, per image.

    Raises:
        InputError: When `methods` is something else.
        UnsupportedError: When no sound method can treat the network.
    """
    if methods != "sound":
        raise InputError(f"methods {methods!r} is unknown; use 'sound', or certificate() for one")
    check_norm(norm)
    claims: list[Claim] = []
    reasons: list[str] = []
    for name, method in METHODS.items():
        if method.guarantee == "deterministic" and norm in method.norms:
            try:
                claims.append(certificate(Specification(name), classifier, images, norm=norm))
            except UnsupportedError as error:
                reasons.append(str(error))
    if not claims:
        raise UnsupportedError("; ".join(reasons) or f"no sound method gives {norm} radii")
    radii = torch.stack([claim.radius for claim in claims])
    radius, best = radii.max(dim=0)
    rows = torch.arange(len(radius), device=radius.device)
    return Claim(
        tuple(str(claims[int(number)].method) for number in best),
        norm,
        "deterministic",
        "model",
        claims[0].predicted,
        radius,
        torch.stack([claim.rival for claim in claims])[best, rows],
    )
