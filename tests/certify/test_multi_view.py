"""The multi-view certificate: exact where it can be, never beaten, about no other subject."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from robustcl import attacks
from robustcl.certify import (
    crown,
    displacement,
    geodesic,
    multi_view,
    product,
    retrieval,
    smoothing,
)
from robustcl.certify.bounds import view_norm
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.core.objectives import misclassify
from robustcl.core.threat import Threat
from robustcl.data.views import COLOR_VIEWS
from robustcl.declarations.claims import MULTI_VIEW
from robustcl.models.inference_views import LinearView, draw_views
from robustcl.models.multi_view import MultiView
from tests.affine import affine_classifier
from tests.certify.test_geodesic import plane
from tests.certify.test_sound import with_head
from tests.families import images_and_directions
from tests.network import small_classifier, some_images

NORMS = get_args(CertifiedNorm)
VIEWS = ("shift:pixels=1", "crop", "noise:sigma=0.05")


def drawn(text: str, count: int, model: Classifier) -> list[nn.Module]:
    return draw_views(text, count, image_shape=model.image_shape, training=COLOR_VIEWS)


def materialized(view: LinearView, shape: tuple[int, ...]) -> Tensor:
    basis = torch.eye(shape[0] * shape[1] * shape[2], dtype=torch.float64)
    plain = LinearView(view.rows, view.columns)
    return plain(basis.view(-1, *shape)).flatten(1).T


@pytest.mark.parametrize("text", VIEWS)
def test_norms_are_those_of_the_whole_operator(text: str) -> None:
    shape = (2, 5, 6)
    views = draw_views(text, 8, image_shape=shape, seed=1)
    for view in views:
        assert isinstance(view, LinearView)
        matrix = materialized(view, shape)
        spectral = float(torch.linalg.svdvals(matrix)[0])
        widest = float(matrix.abs().sum(dim=1).max())
        for norm, true in zip(NORMS, (spectral, widest), strict=True):
            found = view_norm(view, norm=norm)
            assert true <= found <= true * (1 + 1e-6)
        if not text.startswith("crop"):
            assert spectral == pytest.approx(1.0)
    if text == "crop":
        assert max(view_norm(view, norm="l2") for view in views if isinstance(view, LinearView)) > 1


def exact_distance(model: MultiView, images: Tensor, norm: CertifiedNorm) -> Tensor:
    # Scores affine in the image: their gradients are the same everywhere.
    points = images.clone().requires_grad_()
    scores = model(points)
    rows = [torch.autograd.grad(s.sum(), points, retain_graph=True)[0] for s in scores.unbind(1)]
    slopes = torch.stack(rows, dim=1).flatten(2)
    top = scores.argmax(dim=1)
    gaps = scores.gather(1, top[:, None]) - scores
    own = slopes[torch.arange(len(top)), top][:, None]
    sizes = torch.linalg.vector_norm(own - slopes, 2 if norm == "l2" else 1, dim=2)
    return (gaps / sizes).nan_to_num(nan=torch.inf).amin(dim=1).detach()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("aggregate", ["score", "embedding"])
def test_below_the_exact_distance_and_equal_to_it_when_views_agree(
    norm: CertifiedNorm, aggregate
) -> None:
    single = affine_classifier()
    images = torch.rand(20, 2, 4, 4, generator=torch.Generator().manual_seed(2)).double()
    for text in VIEWS:
        model = MultiView(single, drawn(text, 5, single), aggregate).double()
        exact = exact_distance(model, images, norm)
        claim = multi_view(model, images, norm=norm)
        assert bool((claim.radius <= exact * (1 + 1e-9)).all())
        assert torch.equal(claim.predicted, model(images).argmax(dim=1))
    same = MultiView(single, drawn("noise:sigma=0.05", 5, single), aggregate).double()
    # Noise only moves the image, so the gradients of all views agree.
    exact = exact_distance(same, images, norm)
    torch.testing.assert_close(multi_view(same, images, norm=norm).radius, exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_one_plain_view_has_the_radius_of_the_model(norm: CertifiedNorm) -> None:
    single, images = small_classifier(), some_images()
    plain = [LinearView()]
    found = {a: multi_view(MultiView(single, plain, a), images, norm=norm).radius
             for a in ("embedding", "score", "vote")}  # fmt: skip
    old = product(single, images, norm=norm).radius
    lines = crown(single, images, norm=norm).radius
    assert bool((found["embedding"] >= old * (1 - 1e-6)).all())
    torch.testing.assert_close(found["embedding"], lines, rtol=0.05, atol=1e-9)
    angles = geodesic(single, images, norm=norm).radius
    torch.testing.assert_close(found["score"], angles, rtol=1e-4, atol=1e-5)
    assert bool((found["vote"] >= lines * 0.999).all())
    norms = multi_view(MultiView(single, plain, "vote"), images, norm=norm, steps=0).radius
    torch.testing.assert_close(norms, old, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("aggregate", "text"),
    [
        ("embedding", "crop"),
        ("score", "crop"),
        ("vote", "crop"),
        ("score", "shift:pixels=1"),
        ("embedding", "noise:sigma=0.05"),
    ],
)
@pytest.mark.parametrize("head", ["prototype", "linear", "scores"])
def test_no_attack_beats_it(head: str, aggregate, text: str, norm: CertifiedNorm) -> None:
    single = with_head("max_min", head)
    images, _ = images_and_directions(6)
    model = MultiView(single, drawn(text, 3, single), aggregate).double().eval()
    claim = multi_view(model, images, norm=norm)
    assert claim.subject == MULTI_VIEW
    rows = claim.radius > 0
    assert int(rows.sum()) >= 2
    assert torch.equal(claim.predicted[rows], model(images).argmax(dim=1)[rows])
    goal = misclassify(model, model(images).argmax(dim=1))
    inside, far = (
        attacks.run_attack(
            "pgd", goal, images, Threat(norm, scale * claim.radius, None), batch_size=6
        )
        for scale in (1.0 - 1e-6, 300.0)
    )
    assert not bool(inside.success[rows].any())
    assert bool(far.success.any())  # it is no attack that finds nothing


def test_a_majority_outweighs_views_that_are_undecided() -> None:
    # Scores (x, 0): class 0 wins while x > 0. Three views at x = 3, 2, -1 by their offsets.
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    network[1].weight.data = torch.tensor([[1.0], [0.0]])  # pyright: ignore[reportArgumentType]
    network[1].bias.data = torch.zeros(2)
    single = Classifier.from_scores(network, image_shape=(1, 1, 1))
    views = [LinearView(offset=torch.full((1, 1, 1), by)) for by in (3.0, 2.0, -1.0)]
    claim = multi_view(MultiView(single, views, "vote"), torch.zeros(1, 1, 1, 1))
    assert claim.predicted.tolist() == [0]
    assert float(claim.radius) == pytest.approx(2.0, rel=1e-6)  # two of three hold until there
    mean = multi_view(MultiView(single, views, "score"), torch.zeros(1, 1, 1, 1))
    assert float(mean.radius) == pytest.approx(4.0 / 3.0, rel=1e-6)
    tied = multi_view(MultiView(single, [*views, views[2]], "vote"), torch.zeros(1, 1, 1, 1))
    assert float(tied.radius) == 0.0


def stretched(by: float, *, columns: int = 1, offset: float = 0.0) -> LinearView:
    return LinearView(columns=by * torch.eye(columns), offset=torch.full((1, 1, columns), offset))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("steps", [0, 8])
def test_views_that_stretch_by_different_factors_have_the_closed_form(
    norm: CertifiedNorm, steps: int
) -> None:
    # Scores (x, 0) of one number, at 4 x + 1, x + 3 and x / 2: class 0 wins while x > 0.
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    network[1].weight.data = torch.tensor([[1.0], [0.0]])  # pyright: ignore[reportArgumentType]
    network[1].bias.data = torch.zeros(2)
    single = Classifier.from_scores(network, image_shape=(1, 1, 1)).double()
    views = [stretched(4.0, offset=1.0), stretched(1.0, offset=3.0), stretched(0.5)]
    image = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    lead, slope = (3.0 + 3.5 + 0.25) / 3, 5.5 / 3  # of the mean score
    last = sorted([3.0 / 4.0, 3.5, 0.25 / 0.5])[1]  # how far two of three hold
    for aggregate, exact in (("score", lead / slope), ("embedding", lead / slope), ("vote", last)):
        model = MultiView(single, views, aggregate).double()  # pyright: ignore[reportArgumentType]
        radius = float(multi_view(model, image, norm=norm, steps=steps).radius)
        assert radius <= exact
        assert radius == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("aggregate", ["score", "embedding"])
def test_lines_hold_over_the_ball_that_each_view_makes_of_it(
    norm: CertifiedNorm, aggregate
) -> None:
    # Class 0 leads by 1 - 2 relu(y - 1), y = 4 x and 2 x: at .24 + v by 1 - (4 v - .04) in the mean
    # until .26, where the second view begins to fall as well.
    layers = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        for weight, value in zip(
            layers.parameters(), (1.0, -1.0, [-2.0, 0.0], [1.0, 0.0]), strict=True
        ):
            weight.copy_(torch.tensor(value).view(-1, *[1] * (weight.ndim - 1)))
    single = Classifier.from_scores(layers, image_shape=(1, 1, 1)).double()
    model = MultiView(single, [stretched(4.0), stretched(2.0)], aggregate).double()
    image = torch.full((1, 1, 1, 1), 0.24, dtype=torch.float64)
    radius = float(multi_view(model, image, norm=norm).radius)
    assert 0.8 * 0.26 <= radius <= 0.26
    assert float(multi_view(model, image, norm=norm, steps=0).radius) < 0.75 * radius


def random_views(generator: torch.Generator) -> list[LinearView]:
    """Three views of two pixels that stretch and move them, some far to the other side."""
    sizes = 0.25 + 2.0 * torch.rand(3, generator=generator)
    moves = torch.randn(3, 1, 1, 2, generator=generator)
    return [
        LinearView(columns=size * torch.eye(2), offset=move)
        for size, move in zip(sizes, moves, strict=True)
    ]


def turned_least(raw: Tensor, turn: float, axis: Tensor) -> float:
    """The least of a.f for f within some angle of h / |h|, by looking at every angle."""
    angles = torch.linspace(-turn, turn, 4001, dtype=torch.float64)
    start = torch.atan2(raw[1], raw[0]) + angles
    return float((axis[0] * start.cos() + axis[1] * start.sin()).min())


def test_mean_scores_on_the_sphere_hold_until_the_least_ones_within_the_angles_do_not() -> None:
    # Two pixels turned by 0.7, so that h moves as far as the view does.
    generator = torch.Generator().manual_seed(0)
    turn = torch.tensor([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]]).double()
    weight = torch.tensor([[1.0, 0.2], [-0.5, 1.0]]).double()
    lost_a_view = 0
    for _ in range(40):
        bias = torch.tensor([0.0, float(torch.randn(1, generator=generator))]).double()
        views = random_views(generator)
        single = plane(weight.tolist(), bias.tolist())
        model = MultiView(single, views, "score").double().eval()
        image = torch.rand(1, 1, 1, 2, generator=generator, dtype=torch.float64)
        claim = multi_view(model, image)
        top = int(model(image).argmax())
        assert claim.predicted.tolist() == [top]
        axis, offset = weight[top] - weight[1 - top], float(bias[top] - bias[1 - top])
        raws = [turn @ view(image).flatten() for view in views]
        # How far an h moves: what the view stretches, and nothing else.
        sizes = [float(view.columns[0, 0]) for view in views]  # pyright: ignore[reportOptionalSubscript]

        def holds(radius: float) -> bool:
            least = []
            for raw, size in zip(raws, sizes, strict=True):  # noqa: B023
                share = size * radius / float(raw.norm())
                angle = math.asin(share) if share < 1 else math.pi
                least.append(turned_least(raw, angle, axis))  # noqa: B023
            return sum(least) / 3 + offset > 0  # noqa: B023

        low, high = 0.0, 2.0 * 2**0.5
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        assert float(claim.radius) <= low * (1 + 1e-4) + 1e-6
        assert float(claim.radius) == pytest.approx(low, rel=1e-3, abs=1e-5)
        lost_a_view += any(
            size * low > 0.99 * float(raw.norm()) for raw, size in zip(raws, sizes, strict=True)
        )
    assert 5 < lost_a_view < 35


@pytest.mark.parametrize("steps", [0, 8])
def test_mean_embeddings_on_the_sphere_stay_within_the_distance_to_the_edge(steps: int) -> None:
    # The mean h is that of the mean view, and class 0 is ahead within acos(-c / |a|) of a.
    generator = torch.Generator().manual_seed(1)
    turn = torch.tensor([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]]).double()
    weight = torch.tensor([[1.0, 0.2], [-0.5, 1.0]]).double()
    shares = []
    for _ in range(40):
        bias = torch.tensor([0.0, float(torch.randn(1, generator=generator))]).double()
        views = random_views(generator)
        model = MultiView(plane(weight.tolist(), bias.tolist()), views, "embedding").double().eval()
        image = torch.rand(1, 1, 1, 2, generator=generator, dtype=torch.float64)
        top = int(model(image).argmax())
        axis, offset = weight[top] - weight[1 - top], float(bias[top] - bias[1 - top])
        mean = turn @ torch.stack([view(image).flatten() for view in views]).mean(dim=0)
        slope = sum(float(view.columns[0, 0]) for view in views) / 3  # pyright: ignore[reportOptionalSubscript]
        edge = math.acos(max(-offset / float(axis.norm()), -1.0))
        angle = math.acos(float(mean @ axis / (mean.norm() * axis.norm())))
        # Where no direction loses there is no edge, and h can only vanish.
        between = edge - angle if edge < math.pi else math.pi
        exact = float(mean.norm()) * math.sin(min(between, math.pi / 2)) / slope
        claim = multi_view(model, image, steps=steps)
        assert claim.predicted.tolist() == [top]
        assert float(claim.radius) <= exact * (1 + 1e-9)
        shares.append(float(claim.radius) / exact)
    assert sorted(shares)[20] > 0.99


def test_certificates_of_one_view_are_refused_and_smoothing_is_not() -> None:
    single, images = small_classifier(), some_images(2)
    model = MultiView(single, drawn("shift", 2, single))
    for method in (product, crown, geodesic):
        with pytest.raises(UnsupportedError, match="multi_view"):
            method(model, images)
    with pytest.raises(UnsupportedError, match="multi_view"):
        displacement(model, images, eps=0.1)
    with pytest.raises(UnsupportedError, match="multi_view"):
        retrieval(model, images, torch.randn(4, 5))
    assert (smoothing(model, images, n=20, form="vote").radius >= 0).all()
    with pytest.raises(UnsupportedError, match="--views"):
        multi_view(single, images)
    for text, aggregate, word in (("training", "score", "TrainingView"), ("shift", "max", "max")):
        with pytest.raises(UnsupportedError, match=word):
            multi_view(MultiView(single, drawn(text, 2, single), aggregate), images)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="steps"):
        multi_view(model, images, steps=1)
