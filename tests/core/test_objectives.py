"""Objectives: the sign of every margin, against the definition written out."""

import pytest
import torch
from torch import Tensor

from robustcl import attacks
from robustcl.core.errors import InputError
from robustcl.core.objectives import displace, misclassify, outrank, score_margin
from robustcl.core.threat import Threat
from tests.network import small_classifier, some_images


def gallery(count: int, *, seed: int = 3, unit: bool = True) -> Tensor:
    items = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(items, dim=1) if unit else items


def test_misclassify_is_positive_exactly_where_another_class_leads() -> None:
    scores = torch.tensor([[1.0, 2.0, 0.0], [1.0, 1.0, 0.0], [3.0, 2.0, 0.0]])
    assert score_margin(scores, torch.tensor([0, 0, 0])).tolist() == [1.0, 0.0, -1.0]


def test_displace_measures_the_distance_of_embeddings() -> None:
    model, images = small_classifier(), some_images(6)
    other = some_images(6, seed=9)
    distance = (model.embeddings(other) - model.embeddings(images)).norm(dim=1)
    margin = displace(model, images, threshold=0.1).margin(other)
    torch.testing.assert_close(margin, distance - 0.1)
    each = torch.linspace(0.0, 1.0, 6)
    torch.testing.assert_close(
        displace(model, images, threshold=each).margin(other), distance - each
    )
    torch.testing.assert_close(
        displace(model, images, threshold=0.0).margin(images), torch.zeros(6), atol=1e-6, rtol=0
    )


def test_displace_selects_references_and_thresholds_twice() -> None:
    model, images, other = small_classifier(), some_images(6), some_images(6, seed=9)
    whole = displace(model, images, threshold=torch.linspace(0, 1, 6))
    part = whole.select(torch.tensor([5, 1, 1, 3])).select(torch.tensor([0, 2]))
    torch.testing.assert_close(
        part.margin(other[[5, 1]]), whole.margin(other)[[5, 1]], atol=1e-6, rtol=0
    )


def test_displace_has_a_gradient_at_the_image_itself() -> None:
    model, images = small_classifier(), some_images(4)
    objective = displace(model, images, threshold=0.02, batch_size=4)
    points = images.clone().requires_grad_()
    slope = torch.autograd.grad(objective.margin(points).sum(), points)[0]
    assert bool((slope.flatten(1).norm(dim=1) > 0).all())
    # One run of PGD begins at the image; without a slope there it would never leave.
    result = attacks.run_attack(
        "pgd", objective, images, Threat("l2", 2.0), restarts=1, batch_size=4
    )
    assert bool(result.success.all())


def test_the_gradient_of_displace_is_that_of_the_distance() -> None:
    model = small_classifier().double()
    images, other = some_images(4).double(), some_images(4, seed=9).double().requires_grad_()
    reference = model.embeddings(images).detach()
    slope = torch.autograd.grad(
        (model.embeddings(other) - reference).norm(dim=1).sum(), other, retain_graph=True
    )[0]
    ours = torch.autograd.grad(displace(model, images, threshold=0.3).margin(other).sum(), other)[0]
    torch.testing.assert_close(ours, slope)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_outrank_is_positive_exactly_where_k_others_are_nearer(k: int, unit: bool) -> None:
    model, images = small_classifier(), some_images(24)
    known, items = gallery(7, unit=unit), torch.arange(24) % 7
    distance = torch.cdist(model.embeddings(images), known)
    own = distance.gather(1, items[:, None])
    nearer = (distance < own).sum(dim=1)
    margin = outrank(model, known, items=items, k=k).margin(images)
    assert torch.equal(margin > 0, nearer >= k)
    assert 0 < int((margin > 0).sum()) < 24
    squares = ((own**2 - distance**2) / 2).scatter(1, items[:, None], -torch.inf)
    torch.testing.assert_close(margin, squares.sort(dim=1, descending=True).values[:, k - 1])


def test_outrank_with_unit_items_is_the_order_of_cosine_similarity() -> None:
    model, images, known = small_classifier(), some_images(24), gallery(7)
    best = (model.embeddings(images) @ known.T).argmax(dim=1)
    assert not bool((outrank(model, known, items=best).margin(images) > 0).any())
    assert bool((outrank(model, known, items=(best + 1) % 7).margin(images) > 0).all())


def test_outrank_selects_items() -> None:
    model, images, known = small_classifier(), some_images(6), gallery(7)
    whole = outrank(model, known, items=torch.arange(6), k=2)
    part = whole.select(torch.tensor([4, 0, 2])).select(torch.tensor([2, 0]))
    torch.testing.assert_close(
        part.margin(images[[2, 4]]), whole.margin(images)[[2, 4]], atol=1e-6, rtol=0
    )


def test_objectives_leave_the_model_as_it_was() -> None:
    model, images = small_classifier().train(), some_images(4)
    displace(model, images, threshold=0.1)
    outrank(model, gallery(4), items=torch.zeros(4, dtype=torch.int64))
    assert model.training
    assert all(weight.requires_grad for weight in model.encoder.parameters())


def test_attacks_that_need_scores_refuse_them() -> None:
    model, images = small_classifier(), some_images(4)
    targets = model(images).argmax(1)
    for objective in (
        displace(model, images, threshold=0.1),
        outrank(model, gallery(4), items=targets % 4),
    ):
        with pytest.raises(InputError, match="autoattack needs class scores"):
            attacks.run_attack("autoattack", objective, images, Threat("l2", 0.1))
    assert misclassify(model, targets).targets is targets


def test_unusable_arguments_are_refused() -> None:
    model, images = small_classifier(), some_images(4)
    for threshold in (-0.1, float("nan"), torch.zeros(3)):
        with pytest.raises(InputError, match="threshold"):
            displace(model, images, threshold=threshold)
    for k in (0, 4):
        with pytest.raises(InputError, match="1 <= k < M"):
            outrank(model, gallery(4), items=torch.zeros(4, dtype=torch.int64), k=k)
    with pytest.raises(InputError, match="items"):
        outrank(model, gallery(4), items=torch.tensor([0, 1, 2, 4]))
