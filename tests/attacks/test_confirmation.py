"""What a second objective does not confirm is pushed outward, or dropped."""

import pytest
import torch

from robustcl import attacks
from robustcl.core.choices import NORMS, Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective, displace, misclassify, outrank
from robustcl.core.threat import DUAL_ORDERS, Threat, perturbation_norm
from tests.network import small_classifier, some_images

GAP = 1e-3  # by which the first objective wins too early


def objectives(norm: Norm) -> tuple[Objective, Objective, torch.Tensor, torch.Tensor]:
    # Along a plane of unit dual norm at distance 0.2 to 0.8; the first one is too easy by GAP.
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 1, 4, 4, generator=generator) * 0.02 + 0.49
    slope = torch.randn(16, generator=generator).double()
    slope = slope / torch.linalg.vector_norm(slope, DUAL_ORDERS[norm])
    far = torch.linspace(0.05, 0.3, 6).double()
    start = images.double().flatten(1) @ slope

    def aim(rows: torch.Tensor):
        return lambda points: points.double().flatten(1) @ slope - start[rows] - far[rows]

    everyone = torch.arange(6)
    exact = Objective(aim(everyone), aim=aim)

    def early(rows: torch.Tensor):
        return lambda points: aim(rows)(points) + GAP

    return Objective(early(everyone), aim=early), exact, images, far


@pytest.mark.parametrize("norm", NORMS)
def test_points_are_pushed_until_both_agree_and_no_farther_than_needed(norm: Norm) -> None:
    first, exact, images, far = objectives(norm)
    found = attacks.run_attack("boundary_walk", first, images, Threat(norm, 0.5), batch_size=4)
    assert bool(found.success.all())
    assert not bool((exact.margin(found.adversarials.double()) > 0).any())
    sure = attacks.confirmed(found, first, exact, images, Threat(norm, 0.5), batch_size=4)
    assert bool(sure.success.all()) and bool(sure.confirmed.all())
    assert torch.equal(sure.deployed, found.deployed)
    assert bool((exact.margin(sure.adversarials.double()) > 0).all())
    assert bool((sure.radius >= far * (1 - 1e-6)).all())
    assert bool((sure.radius <= far + 2e-6).all())
    moved = perturbation_norm(sure.adversarials - images, norm)
    torch.testing.assert_close(moved, sure.radius)
    assert bool((sure.gradients > found.gradients).all())


def test_a_push_that_went_too_far_is_taken_back() -> None:
    first, exact, images, far = objectives("l2")

    def steep(rows: torch.Tensor):
        # Its gradient promises a hundred times as much as there is, so pushes fall short at first.
        margin = exact.select(rows).margin
        return lambda points: 100 * margin(points) - 99 * margin(points.detach())

    wrong = Objective(steep(torch.arange(6)), aim=steep)
    found = attacks.run_attack("boundary_walk", first, images, Threat("l2", 0.5), batch_size=4)
    sure = attacks.confirmed(found, first, wrong, images, Threat("l2", 0.5), batch_size=4)
    assert bool(sure.confirmed.all()) and bool((sure.gradients > found.gradients + 3).all())
    assert bool((sure.radius >= far * (1 - 1e-6)).all())
    assert bool((sure.radius <= far + 0.01 * GAP).all())


@pytest.mark.parametrize("norm", NORMS)
def test_what_cannot_be_pushed_within_the_budget_counts_as_not_found(norm: Norm) -> None:
    first, exact, images, far = objectives(norm)
    threat = Threat(norm, far - 0.5 * GAP)
    found = attacks.run_attack("pgd", first, images, threat, batch_size=4)
    assert bool(found.success.all())
    sure = attacks.confirmed(found, first, exact, images, threat, batch_size=4)
    assert bool(torch.isinf(sure.radius).all()) and not bool(sure.confirmed.any())
    assert bool(sure.success.all())  # the deployed model is fooled all the same
    assert torch.equal(sure.deployed, found.deployed)
    assert torch.equal(sure.adversarials, found.adversarials)


def test_what_is_confirmed_already_stays_as_it_is() -> None:
    first, exact, images, _ = objectives("l2")
    found = attacks.run_attack("fmn", exact, images, Threat("l2", 0.5), batch_size=4)
    sure = attacks.confirmed(found, first, exact, images, Threat("l2", 0.5), batch_size=4)
    assert torch.equal(sure.adversarials, found.adversarials)
    torch.testing.assert_close(sure.radius, found.deployed)
    assert torch.equal(sure.gradients, found.gradients)


def test_points_found_in_float32_hold_in_float64() -> None:
    model, images = small_classifier(), some_images(20)
    left = model(images).argmax(1)
    goal, double = misclassify(model, left), misclassify(small_classifier().double(), left)
    for attack in ("pgd", "boundary_walk"):
        found = attacks.attacked_radius(
            attack, goal, images, norm="l2", eps_grid=[2.0], batch_size=20
        )
        assert torch.equal(found.confirmed, found.success) and bool(found.success.any())
        points = found.adversarials[found.confirmed].double()
        alone = [double.select(row[None]) for row in torch.nonzero(found.confirmed)[:, 0]]
        margins = [one.margin(point[None]) for one, point in zip(alone, points, strict=True)]
        assert bool((torch.cat(margins) > 0).all())
        assert bool((goal.margin(found.adversarials) > 0)[found.success].all())
        ratio = (found.radius / found.deployed)[found.success]
        assert bool((ratio >= 1.0 - 1e-6).all()) and bool((ratio < 1.0001).all())
        moved = perturbation_norm(points - images[found.confirmed].double(), "l2")
        assert bool((found.radius[found.confirmed] >= moved).all())


def test_a_budget_is_kept_by_what_is_confirmed() -> None:
    model, images = small_classifier(), some_images(20)
    goal = misclassify(model, model(images).argmax(1))
    near = attacks.attacked_radius("boundary_walk", goal, images, norm="l2", eps_grid=[9.0])
    found = attacks.run_attack("pgd", goal, images, Threat("l2", near.radius), batch_size=20)
    assert bool(
        (found.radius[found.confirmed] <= (near.radius * (1 + 1e-6))[found.confirmed]).all()
    )
    assert bool((found.success | ~found.confirmed).all())


def test_an_objective_about_no_other_classifier_has_no_radius_and_says_so() -> None:
    first, _, images, _ = objectives("l2")
    model = small_classifier()
    mute = Objective(
        misclassify(model, model(some_images(4)).argmax(1)).margin, model, aim=None, about=None
    )
    for found in (
        attacks.run_attack("fmn", first, images, Threat("l2", 0.5), batch_size=4),
        attacks.attacked_radius("pgd", mute, some_images(4), norm="l2", eps_grid=[2.0],
                                batch_size=4),
    ):  # fmt: skip
        assert bool(found.success.any()) and not bool(found.confirmed.any())
        assert torch.equal(torch.isfinite(found.deployed), found.success)
        assert bool(torch.isinf(found.radius).all())
        assert "not confirmed in float64: the objective does not say" in found.note


class _Narrow(torch.nn.Module):
    # A product in float32 that refuses other types.
    def __init__(self) -> None:
        super().__init__()
        self.weight = [torch.randn(64, 3, generator=torch.Generator().manual_seed(0))]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weight[0].float()


def test_a_network_that_does_not_run_in_float64_has_no_radius_and_the_note_says_why() -> None:
    model, images = Classifier.from_scores(_Narrow(), image_shape=(1, 8, 8)), some_images(6)
    goal = misclassify(model, model(images).argmax(1))
    found = attacks.run_attack("pgd", goal, images, Threat("l2", 3.0), batch_size=6)
    assert bool(found.success.any()) and not bool(found.confirmed.any())
    assert "not confirmed in float64: expected" in found.note


@pytest.mark.parametrize("kind", ["displace", "outrank"])
def test_other_aims_are_confirmed_too(kind: str) -> None:
    model, images = small_classifier(), some_images(6)
    items = torch.nn.functional.normalize(
        torch.randn(9, 5, generator=torch.Generator().manual_seed(0)), dim=1
    )
    best = (model.embeddings(images) @ items.T).argmax(dim=1)

    def goal(classifier: Classifier, seen: torch.Tensor) -> Objective:
        if kind == "displace":
            return displace(classifier, seen, threshold=0.3)
        return outrank(classifier, items, items=best)

    found = attacks.attacked_radius(
        "fmn", goal(model, images), images, norm="l2", eps_grid=[9.0], batch_size=6
    )
    assert bool(found.confirmed.all()) and found.note == ""
    double = goal(small_classifier().double(), images.double())
    assert bool((double.margin(found.adversarials.double()) > 0).all())


def test_what_is_said_about_another_classifier_is_selected_along() -> None:
    model, other, images = small_classifier(), small_classifier(seed=5), some_images(6)
    left = model(images).argmax(1)
    rows, inner = torch.tensor([4, 1, 5, 1]), torch.tensor([2, 0])
    for goal, expected in (
        (misclassify(model, left), misclassify(other, left)),
        (displace(model, images, threshold=torch.linspace(0, 1, 6)),
         displace(other, images, threshold=torch.linspace(0, 1, 6))),
        (attacks.expectation(misclassify(model, left), draws=3), misclassify(other, left)),
    ):  # fmt: skip
        part = goal.select(rows).select(inner)
        assert part.about is not None
        points = some_images(2, seed=8)
        torch.testing.assert_close(
            part.about(other).margin(points), expected.select(rows[inner]).margin(points)
        )


def test_callers_in_inference_mode_find_the_same() -> None:
    model, images = small_classifier(), some_images(6)
    goal = misclassify(model, model(images).argmax(1))
    plain = attacks.attacked_radius("pgd", goal, images, norm="l2", eps_grid=[2.0], batch_size=6)
    with torch.inference_mode():
        seen = images.clone()
        left = model(seen).argmax(1)
        aims = (misclassify(model, left), misclassify(model, left).select(torch.arange(6)))
        for aim in aims:
            found = attacks.attacked_radius(
                "pgd", aim, seen, norm="l2", eps_grid=[2.0], batch_size=6
            )
            assert torch.equal(found.radius, plain.radius)
        drift = displace(model, seen, threshold=0.2)
        assert bool(
            attacks.run_attack("pgd", drift, seen, Threat("l2", 2.0), batch_size=6).confirmed.any()
        )
        eps = torch.full((6,), 2.0)
        run = attacks.run_attack(
            "boundary_walk", aims[0], seen, Threat("l2", eps), starts=seen + 0.0
        )
    assert not run.adversarials.is_inference()


@pytest.mark.parametrize("box", [(0.0, 1.0), None])
def test_unusable_images_are_refused(box: tuple[float, float] | None) -> None:
    model, images = small_classifier(), some_images(4)
    goal = misclassify(model, model(images).argmax(1))
    hole = images.clone()
    hole[1, 0, 2, 2] = torch.nan
    wrong = (
        ((255 * images).to(torch.uint8), "divide by 255"),
        ((255 * images).long(), "float32"),
        (hole, "not finite"),
        (images[:0], "no images"),
        (images[0], r"\(B, C, H, W\)"),
        (images.expand(-1, 3, -1, -1), "encoder takes"),
    )
    for bad, message in wrong:
        with pytest.raises(InputError, match=message):
            attacks.run_attack("pgd", goal, bad, Threat("l2", 1.0, box))
        with pytest.raises(InputError, match=message):
            attacks.attacked_radius("pgd", goal, bad, norm="l2", eps_grid=[1.0], box=box)
    if box:
        with pytest.raises(InputError, match="divide by 255"):
            attacks.run_attack("pgd", goal, 255 * images, Threat("l2", 1.0))
    with pytest.raises(InputError, match="outside the box"):
        attacks.run_attack("pgd", goal, images, Threat("l2", 1.0, (0.0, 0.5)))
    with pytest.raises(InputError, match="seeds"):
        attacks.run_attack("pgd", goal, images, Threat("l2", 1.0, box), seeds=[0])
