"""Radii in L1 are those in L2, which hold there too."""

import pytest
import torch

from robustcl import attacks, certify
from robustcl.attacks.known_answer import linear_classifier
from robustcl.certify.norms import check_certified_norm
from robustcl.core.errors import InputError
from robustcl.core.objectives import misclassify
from robustcl.evaluation.config import EvaluationConfig
from tests.affine import affine_classifier, exact_distance


def test_a_radius_in_l1_is_the_one_in_l2_and_below_the_exact_one() -> None:
    model = affine_classifier()
    images = torch.rand(5, 2, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    for text in ("product", "sound"):
        method = certify.parse_method(text)
        prepared = certify.prepare(method, model, norm="l1")
        claim = certify.certificate(method, model, images, norm="l1", prepared=prepared)
        same = certify.certificate(method, model, images, norm="l2")
        assert (claim.norm, same.norm) == ("l1", "l2")
        assert claim.guarantee == "deterministic"
        assert torch.equal(claim.radius, same.radius)
        assert bool((claim.radius > 0).all())
        assert bool((claim.radius < exact_distance(model, images, "l1")).all())


def test_nothing_is_found_within_a_radius() -> None:
    model, image = linear_classifier("l2", radius=0.3)
    claim = certify.certificate(certify.parse_method("product"), model, image, norm="l1")
    objective = misclassify(model, model(image).argmax(1))
    found = attacks.attacked_radius(
        "fmn", objective, image, norm="l1", eps_grid=[9.0], batch_size=1
    )
    assert torch.isfinite(found.radius).all()
    assert bool((found.radius > claim.radius).all())


def test_estimates_are_none_in_l1() -> None:
    model, image = linear_classifier("l2", radius=0.3)
    with pytest.raises(InputError, match="no l1 radius"):
        certify.certificate(certify.parse_method("first_order"), model, image, norm="l1")
    with pytest.raises(InputError, match="leave it out"):
        EvaluationConfig(norm="l1", methods=("clever",), eps=(1.0,))
    assert EvaluationConfig(norm="l1", methods=("sound",), eps=(1.0,)).tests_balls


def test_a_certificate_asked_for_l1_itself_names_the_cure() -> None:
    model, image = linear_classifier("l2", radius=0.3)
    with pytest.raises(InputError, match="holds as it is"):
        certify.product(model, image, norm="l1")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="use l2 or linf"):
        check_certified_norm("l3")
