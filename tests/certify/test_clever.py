"""CLEVER: exact for affine scores, near a known slope elsewhere, and never called a proof."""

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from robustcl.certify._clever import clever, weibull_endpoint
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from tests.affine import SHAPE, affine_classifier, exact_distance
from tests.network import small_classifier, some_images

NORMS = get_args(CertifiedNorm)
MODULE = __import__("robustcl.certify._clever", fromlist=["clever"])


def images(count: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("norm", NORMS)
def test_for_affine_scores_it_is_the_exact_distance(norm: CertifiedNorm) -> None:
    model, points = affine_classifier(), images()
    exact = exact_distance(model, points, norm)
    top_two = model(points).topk(2, dim=1).indices
    claim = clever(model, points, norm=norm, ball=10.0, samples=4, batches=5, batch_size=16)
    torch.testing.assert_close(claim.radius, exact, rtol=1e-9, atol=0)
    # The nearest boundary is not always the runner-up's.
    assert bool((claim.rival != top_two[:, 1]).any())
    assert (claim.guarantee, claim.subject, claim.norm) == ("estimate", "model", norm)
    ball = float(exact.median())
    capped = clever(model, points, norm=norm, ball=ball, samples=4, batches=5, batch_size=16)
    torch.testing.assert_close(capped.radius, exact.clamp(max=ball), rtol=1e-9, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_the_slopes_are_those_of_the_differences(norm: CertifiedNorm) -> None:
    model, image = small_classifier().double(), some_images(1)[0].double()
    order = 2.0 if norm == "l2" else 1.0
    blocks = list(MODULE._blocks(image, 40, 0.7, norm, torch.Generator().manual_seed(5)))
    equal = torch.ones(model.num_classes)  # no other class is farther than the others
    found = MODULE._slopes(model, iter(blocks), 2, equal, 1e9, norm, 12)
    points = torch.cat(blocks).requires_grad_()
    for rival in range(6):
        scores = model(points)
        slope = torch.autograd.grad((scores[:, 2] - scores[:, rival]).sum(), points)[0]
        size = torch.linalg.vector_norm(slope.flatten(1), order, dim=1)
        torch.testing.assert_close(found[:, rival], size)


def test_giving_up_far_rivals_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = small_classifier(), some_images(6)
    claim = clever(model, images, ball=0.3, samples=16, batches=20)
    monkeypatch.setattr(MODULE, "_FAR", float("inf"))
    whole = clever(model, images, ball=0.3, samples=16, batches=20)
    assert torch.equal(claim.radius, whole.radius)
    assert torch.equal(claim.rival, whole.rival)


def test_points_are_uniform_in_the_ball() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(1, 2, 2)
    count = 20_000
    ball = MODULE._in_unit_ball(count, image, "l2", generator).flatten(1).norm(dim=1)
    cube = MODULE._in_unit_ball(count, image, "linf", generator).flatten(1).abs().amax(dim=1)
    for size in (ball, cube):
        assert float(size.max()) <= 1.0
        # |v| <= r has probability r^4 in both.
        for share in (0.1, 0.5, 0.9):
            inside = float((size <= share**0.25).double().mean())
            assert abs(inside - share) <= 4 * (share * (1 - share) / count) ** 0.5


def test_maxima_are_those_of_batches_drawn_with_replacement() -> None:
    draws = np.random.default_rng(0)
    pool = draws.gamma(3.0, size=50)
    drawn = pool[draws.integers(50, size=(20_000, 8))].max(axis=1)
    generator = torch.Generator().manual_seed(0)
    ours = MODULE._batch_maxima(torch.tensor(pool)[:, None].repeat(1, 2), 20_000, 8, generator)
    assert ours.shape == (20_000, 2)
    for value in np.quantile(pool, [0.5, 0.8, 0.9, 0.96]):
        share = float(np.mean(drawn <= value))
        exact = np.mean(pool <= value) ** 8
        error = 4 * np.sqrt(exact * (1 - exact) / 20_000)
        assert abs(share - exact) <= error
        for column in ours.T:
            assert abs(float((column <= value).double().mean()) - exact) <= error


class Bowl(nn.Module):
    """Scores (10 - |x - c|^2, 0): the slope is 2 |x - c|, largest at the ball's far side."""

    def forward(self, points: Tensor) -> Tensor:
        far = (points.flatten(1) - 0.5).square().sum(dim=1)
        return torch.stack([10.0 - far, torch.zeros_like(far)], dim=1)


def test_a_known_largest_slope_is_nearly_found() -> None:
    model = Classifier.from_scores(Bowl(), image_shape=(1, 1, 2)).double()
    points = torch.rand(10, 1, 1, 2, generator=torch.Generator().manual_seed(1)).double()
    ball = 1.0
    far = (points - 0.5).flatten(1).norm(dim=1)
    exact = (10 - far**2) / (2 * (far + ball))
    claim = clever(model, points, ball=100.0, samples=10, batches=5)
    assert bool((claim.radius < exact).all())  # a larger ball has larger slopes
    claim = clever(model, points, ball=ball, samples=256, batches=200)
    assert bool((claim.radius == ball).all())  # no boundary within the ball
    slopes = [
        MODULE._slopes(
            model,
            MODULE._blocks(point, 2560, ball, "l2", torch.Generator().manual_seed(7)),
            0,
            torch.ones(2),
            ball,
            "l2",
            256,
        )
        for point in points
    ]
    maxima = torch.stack(
        [MODULE._batch_maxima(s, 200, 256, torch.Generator().manual_seed(8))[:, 1] for s in slopes],
        dim=1,
    )
    estimate = weibull_endpoint(maxima)
    torch.testing.assert_close(estimate, 2 * (far + ball), rtol=0.02, atol=0)


@pytest.mark.parametrize("shape", [1.5, 3.0, 5.0])
def test_the_endpoint_is_recovered(shape: float) -> None:
    draws = np.random.default_rng(0)
    samples = 10.0 - draws.weibull(shape, size=(500, 40))
    found = weibull_endpoint(torch.tensor(samples))
    assert bool((found >= torch.tensor(samples.max(axis=0))).all())
    error = float(found.std()) / 40**0.5
    # The maximum itself, which a careless fit returns, is many errors too low.
    assert abs(float(found.mean()) - 10.0) <= 3 * error + 0.003
    assert 10.0 - samples.max(axis=0).mean() > 3 * error + 0.003


def reference_endpoint(samples: np.ndarray) -> float:
    """Maximize the same likelihood over all three parameters by simplex search."""
    top, width = samples.max(), np.ptp(samples)

    def loss(parameters: np.ndarray) -> float:
        room, shape, scale = np.exp(parameters) + np.array([0.0, 1.0, 0.0])
        if room > 1.0 or shape > 1e3:
            return 1e9
        depth = np.log(np.maximum(top + room * width - samples, 1e-300)) - np.log(scale)
        logs = np.log(shape / scale) + (shape - 1) * depth - np.exp(np.minimum(shape * depth, 50))
        return -float(np.sum(logs))

    options = {"maxiter": 4000, "xatol": 1e-8, "fatol": 1e-10}
    starts = [(a, b, 0.0) for a in (-5.0, -2.0, -0.1) for b in (-1.0, 1.0, 2.0)]
    best = min(
        (minimize(loss, start, method="Nelder-Mead", options=options) for start in starts),
        key=lambda found: found.fun,
    )
    return float(top + np.exp(best.x[0]) * width)


@pytest.mark.parametrize("shape", [0.7, 1.5, 4.0, 15.0])
def test_the_endpoint_has_the_largest_likelihood(shape: float) -> None:
    samples = 10.0 - np.random.default_rng(3).weibull(shape, size=150)
    found = float(weibull_endpoint(torch.tensor(samples[:, None])))
    exact = reference_endpoint(samples)
    assert found == pytest.approx(exact, abs=2e-3 * float(np.ptp(samples)))


def test_the_endpoint_moves_with_the_samples() -> None:
    samples = torch.tensor(10.0 - np.random.default_rng(3).weibull(2.0, size=(100, 2, 3)))
    found = weibull_endpoint(samples)
    assert found.shape == (2, 3)
    torch.testing.assert_close(weibull_endpoint(1e-3 * samples + 7.0), 1e-3 * found + 7.0)
    single = weibull_endpoint(samples[:, 1, 2:3])
    torch.testing.assert_close(single[0], found[1, 2])
    assert weibull_endpoint(torch.full((5, 1), 3.0)).tolist() == [3.0]
    assert weibull_endpoint(torch.zeros(5, 1)).tolist() == [0.0]


def test_seeds_decide_not_the_batch() -> None:
    model, points = small_classifier(), some_images(3)
    options = {"ball": 0.5, "samples": 8, "batches": 20, "batch_size": 16}
    whole = clever(model, points, seeds=[5, 6, 7], **options)  # pyright: ignore[reportArgumentType]
    alone = clever(model, points[2:], seeds=[7], **options)  # pyright: ignore[reportArgumentType]
    assert float(whole.radius[2]) == pytest.approx(float(alone.radius[0]), rel=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model = small_classifier().train()
    clever(model, some_images(1), samples=2, batches=2)
    assert model.training
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


def test_what_makes_no_sense_is_refused() -> None:
    model, points = small_classifier(), some_images(2)
    for options in ({"ball": 0.0}, {"batches": 1}, {"samples": 0}, {"batch_size": 0}):
        with pytest.raises(InputError, match="clever with"):
            clever(model, points, **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="seeds"):
        clever(model, points, seeds=[1])
    with pytest.raises(InputError, match="l1"):
        clever(model, points, norm="l1")  # pyright: ignore[reportArgumentType]
