"""The Jacobian estimate against singular values computed by hand."""

import sys
from typing import get_args

import pytest
import torch

from robustcl.certify import jacobian_norm
from robustcl.core.choices import CertifiedNorm
from tests.network import small_classifier, some_images


def by_hand(norm: CertifiedNorm) -> torch.Tensor:
    model, images = small_classifier(head="linear").double(), some_images(4).double()
    weight, bias = (part.double() for part in model.affine_head or ())
    radii = []
    for image in images:
        jacobian = torch.autograd.functional.jacobian(lambda x: model.embeddings(x)[0], image[None])
        rows = torch.as_tensor(jacobian).flatten(1)
        size = torch.linalg.svdvals(rows)[0]
        if norm == "linf":
            size = torch.minimum(rows.abs().sum(1).norm(), 64**0.5 * size)
        scores = weight @ model.embeddings(image[None])[0] + bias
        top = int(scores.argmax())
        ratios = (scores[top] - scores) / ((weight[top] - weight).norm(dim=1) * size)
        radii.append(min(float(ratio) for j, ratio in enumerate(ratios) if j != top))
    return torch.tensor(radii, dtype=torch.float64)


@pytest.mark.parametrize("norm", get_args(CertifiedNorm))
def test_is_the_classic_formula(norm: CertifiedNorm) -> None:
    model, images = small_classifier(head="linear").double(), some_images(4).double()
    claim = jacobian_norm(model, images, norm=norm)
    assert claim.guarantee == "estimate"
    torch.testing.assert_close(claim.radius, by_hand(norm), rtol=1e-6, atol=0)


def test_power_iteration_agrees_with_the_exact_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["robustcl.certify._jacobian_norm"], "EXACT_UP_TO", 0)
    model, images = small_classifier(head="linear").double(), some_images(4).double()
    claim = jacobian_norm(model, images, iterations=300)
    torch.testing.assert_close(claim.radius, by_hand("l2"), rtol=1e-3, atol=0)
