"""Attacks on multi-view models: every loss has a case that only it wins."""

import pytest
import torch
from torch import nn

from robustcl import attacks
from robustcl.core.choices import AGGREGATES, Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.objectives import misclassify
from robustcl.core.threat import Threat
from robustcl.models.inference_views import LinearView, RandomViews, draw_views
from robustcl.models.multi_view import MultiView
from tests.network import small_classifier, some_images


def moved(*offsets: float) -> list[nn.Module]:
    return [LinearView(offset=torch.full((1, 1, 2), by)) for by in offsets]


def plane(scale: float = 1.0) -> Classifier:
    # Scores (x0 + x1 - 1, 0), read in two classes.
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    network[1].weight.data = scale * torch.tensor([[1.0, 1.0], [0.0, 0.0]])  # pyright: ignore[reportArgumentType]
    network[1].bias.data = scale * torch.tensor([-1.0, 0.0])
    return Classifier.from_scores(network, image_shape=(1, 1, 2))


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_finds_what_pgd_finds_and_never_leaves_the_ball(aggregate, norm: Norm) -> None:
    single, images = small_classifier(), some_images(16)
    views = draw_views("shift:pixels=1", 5, image_shape=single.image_shape)
    model = MultiView(single, views, aggregate, temperature=0.1)
    goal = misclassify(model, model(images).argmax(dim=1))
    eps = 0.6 if norm == "l2" else 0.1
    plain = attacks.run_attack("pgd", goal, images, Threat(norm, eps), steps=10)
    found = attacks.run_attack("every_view", goal, images, Threat(norm, eps), steps=10)
    assert bool(found.success.any())
    # Equal budgets need not win the same images, but what is lost is at most one of them.
    assert int((plain.success & ~found.success).sum()) <= 1
    assert int(found.success.sum()) >= int(plain.success.sum())
    assert (found.gradients == 5 * (2 * 10 + 2 * 10 + 2)).all()
    moved_by = (found.adversarials - images).flatten(1)
    sizes = torch.linalg.vector_norm(moved_by, 2 if norm == "l2" else torch.inf, dim=1)
    assert bool((sizes <= eps * (1 + 1e-6)).all())


def test_a_vote_falls_view_by_view() -> None:
    # Two of three views must be lost. The mean score is far from lost, and aims at the third.
    model = MultiView(plane(), moved(0.0, 0.02, 50.0), "vote", temperature=1e-3)
    images = torch.full((4, 1, 1, 2), 0.55)
    goal, threat = misclassify(model, torch.zeros(4, dtype=torch.int64)), Threat("linf", 0.2)
    assert not bool((goal.margin(images) > 0).any())
    assert not bool(attacks.run_attack("pgd", goal, images, threat, restarts=1).success.any())
    assert bool(attacks.run_attack("every_view", goal, images, threat).success.all())


def test_one_perturbation_is_shared_by_all_views() -> None:
    # A view and its mirror image need opposite moves; both together cannot be lost within 0.2.
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    network[1].weight.data = torch.tensor([[1.0, -1.0], [0.0, 0.0]])  # pyright: ignore[reportArgumentType]
    network[1].bias.data = torch.tensor([0.1, 0.0])
    single = Classifier.from_scores(network, image_shape=(1, 1, 2))
    images = torch.full((3, 1, 1, 2), 0.5)
    left, threat = torch.zeros(3, dtype=torch.int64), Threat("linf", 0.2)
    alone = attacks.run_attack("pgd", misclassify(single, left), images, threat)
    both = MultiView(single, draw_views("shift:pixels=0", 2, image_shape=(1, 1, 2)))
    found = attacks.run_attack("every_view", misclassify(both, left), images, threat)
    assert bool(alone.success.all()) and not bool(found.success.any())


def test_fresh_views_are_attacked_in_expectation_and_judged_by_fresh_draws() -> None:
    single, images = small_classifier(), some_images(6)
    model = RandomViews(single, "noise:sigma=0.3", 2)
    with torch.no_grad():
        torch.manual_seed(0)
        first = model(images)
        assert not torch.equal(first, model(images))
        torch.manual_seed(0)
        torch.testing.assert_close(model(images[2:4]), first[2:4])  # whatever the batch
        left = model(images).argmax(dim=1)
    goal = attacks.expectation(misclassify(model, left), draws=20)
    assert goal.evaluations == 40
    found = attacks.run_attack("pgd", goal, images, Threat("l2", 2.0), steps=6, restarts=1)
    assert bool(found.success.any())
    fresh = attacks.expectation(misclassify(model, left), draws=60, seed=1)
    again = attacks.measure(fresh, found.adversarials, batch_size=6) > 0
    assert int(again[found.success].sum()) >= int(found.success.sum()) - 1
    flags = attacks.model_flags(model.eval(), images, Threat("l2", 0.5))
    assert "randomized" in {flag.name for flag in flags}


def test_views_of_views_are_refused() -> None:
    single = small_classifier()
    with pytest.raises(InputError, match="already"):
        RandomViews(RandomViews(single, "shift", 2), "shift", 2)
