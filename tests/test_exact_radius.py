"""The exact radius against slow truths, and the order certified <= exact <= attacked."""

from itertools import combinations, product
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor, nn

from robustcl import attacks
from robustcl.certify import product as product_certificate
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import UnsupportedError
from robustcl.core.objectives import misclassify
from robustcl.models.heads import LinearHead, PrototypeHead
from tests.affine import SHAPE, affine_classifier, exact_distance
from tests.exact_radius import exact_radius, radius_bounds
from tests.network import small_classifier, some_images

Array = NDArray[np.float64]
NORMS: tuple[CertifiedNorm, ...] = get_args(CertifiedNorm)
BOXES = [None, (0.0, 1.0)]


def relu_classifier(*widths: int, head: str, seed: int, shape: tuple[int, int, int]) -> Classifier:
    # `widths` are those of the hidden layers and of the output.
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    before = int(np.prod(shape))
    for width in widths:
        layers += [nn.Linear(before, width), nn.ReLU()]
        before = width
    backbone = nn.Sequential(*layers[:-1])
    if head == "scores":
        return Classifier.from_scores(backbone, image_shape=shape, mean=(0.4,), std=(0.7,)).double()
    encoder = Encoder(backbone, image_shape=shape, mean=(0.4,), std=(0.7,))
    weight = torch.randn(3, before)
    linear = LinearHead(weight, torch.zeros(3))
    return Classifier(encoder, linear if head == "linear" else PrototypeHead(weight)).double()


def points(count: int, shape: tuple[int, ...], *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *shape, generator=generator, dtype=torch.float64)


def enumerated(model: Classifier, image: Tensor, norm: CertifiedNorm, box: bool) -> float:
    """Go through all activation patterns; on each the network is affine."""
    hidden = [layer for layer in model.encoder.backbone if isinstance(layer, nn.Linear)]  # pyright: ignore[reportGeneralTypeIssues]
    matrices = [layer.weight.detach().numpy() for layer in hidden]
    biases = [layer.bias.detach().numpy() for layer in hidden]
    start = ((image - 0.4) / 0.7).reshape(-1).numpy()  # the network as a function of v, x = image+v
    affine = model.affine_head
    assert affine is not None
    head = affine[0].double().numpy()
    own = int(model(image[None]).argmax())
    best = np.inf
    for pattern in product((0.0, 1.0), repeat=sum(len(bias) for bias in biases[:-1])):
        slope, value, signs = np.eye(len(start)) / 0.7, start, list(pattern)
        rows, heights = [], []
        for matrix, bias in zip(matrices[:-1], biases[:-1], strict=True):
            slope, value = matrix @ slope, matrix @ value + bias
            phase = np.array([signs.pop(0) for _ in bias])
            rows.append((2 * phase - 1)[:, None] * slope)  # rows @ v >= heights
            heights.append(-(2 * phase - 1) * value)
            slope, value = phase[:, None] * slope, phase * value
        slope, value = head @ matrices[-1] @ slope, head @ (matrices[-1] @ value + biases[-1])
        if box:
            rows += [np.eye(len(start)), -np.eye(len(start))]
            flat = image.reshape(-1).numpy()
            heights += [-flat, flat - 1.0]
        for rival in {0, 1, 2} - {own}:
            g = np.vstack([*rows, (slope[rival] - slope[own])[None]])
            h = np.concatenate([*heights, [value[own] - value[rival]]])
            best = min(best, least_l2(g, h) if norm == "l2" else least_linf(g, h))
    return best


def least_l2(g: Array, h: Array) -> float:
    # The least v lies at the foot of the constraints that are tight, at most n: try all sets.
    best = 0.0 if bool((h <= 0).all()) else np.inf
    for size in range(1, g.shape[1] + 1):
        sets = np.array(list(combinations(range(len(g)), size)))
        feet = np.einsum("sij,sj->si", np.linalg.pinv(g[sets]), h[sets])
        feasible = (feet @ g.T >= h - 1e-9).all(axis=1)
        best = min(best, np.linalg.norm(feet[feasible], axis=1).min(initial=np.inf))
    return best


def least_linf(g: Array, h: Array) -> float:
    count = g.shape[1]
    sides = np.vstack([np.eye(count), -np.eye(count)])
    matrix = np.vstack([np.hstack([-g, np.zeros((len(g), 1))]), np.hstack([sides, -np.ones((2 * count, 1))])])  # fmt: skip  # noqa: E501
    limits = np.concatenate([-h, np.zeros(2 * count)])
    found = linprog([0.0] * count + [1.0], matrix, limits, bounds=(None, None))
    return float(found.fun) if found.status == 0 else np.inf


@pytest.mark.parametrize("box", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("widths", "head"),
    [((6, 3), "scores"), ((6, 4), "prototype"), ((4, 3, 4), "linear"), ((3, 2, 2, 3), "prototype")],
)
def test_equals_the_enumeration_of_all_patterns(
    widths: tuple[int, ...], head: str, norm: CertifiedNorm, box: bool
) -> None:
    for seed in range(2):
        model = relu_classifier(*widths, head=head, seed=seed, shape=(1, 1, 3))
        for image in points(2, (1, 1, 3), seed=seed):
            slow = enumerated(model, image, norm, box)
            fast = exact_radius(model, image, norm=norm, box=(0.0, 1.0) if box else None)
            assert fast == pytest.approx(slow, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_affine_scores_have_their_closed_form(norm: CertifiedNorm) -> None:
    model, images = affine_classifier(), points(6, SHAPE, seed=1)
    exact = exact_distance(model, images, norm)
    for image, radius in zip(images, exact.tolist(), strict=True):
        assert exact_radius(model, image, norm=norm) == pytest.approx(radius, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("box", BOXES)
def test_a_dense_grid_in_the_plane(norm: CertifiedNorm, box: tuple[float, float] | None) -> None:
    axis = torch.linspace(0.0, 1.0, 601, dtype=torch.float64)
    if box is None:
        axis = 4.0 * axis - 1.5
    grid = torch.cartesian_prod(axis, axis).reshape(-1, 1, 1, 2)
    step = float(axis[1] - axis[0])
    met = 0
    for seed in range(3 if box is None else 8):
        model = relu_classifier(10, 8, 4, head="prototype", seed=seed, shape=(1, 1, 2))
        with torch.no_grad():
            predicted = model(grid).argmax(1)
        for image in points(3, (1, 1, 2), seed=seed):
            lost = grid[predicted != int(model(image[None]).argmax())]
            exact = exact_radius(model, image, norm=norm, box=box)
            order = 2.0 if norm == "l2" else torch.inf
            away = torch.linalg.vector_norm((lost - image).flatten(1), order, dim=1)
            if not len(away):
                assert exact > 1.4 if box is None else exact == np.inf
                continue
            met += 1
            assert exact <= float(away.min()) * (1 + 1e-6)
            assert exact >= float(away.min()) - 4 * step
    assert met >= 3


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("head", ["prototype", "scores"])
def test_certified_is_below_exact_is_below_attacked(head: str, norm: CertifiedNorm) -> None:
    model = relu_classifier(24, 8, head=head, seed=3, shape=(1, 8, 8))
    images = points(3, (1, 8, 8))
    certified = product_certificate(model, images, norm=norm)
    free = [exact_radius(model, image, norm=norm) for image in images]
    boxed = [exact_radius(model, image, norm=norm, box=(0.0, 1.0)) for image in images]
    for box, exact in ((None, free), ((0.0, 1.0), boxed)):
        attacked = attacks.attacked_radius(
            "pgd",
            misclassify(model, certified.predicted),
            images,
            norm=norm,
            eps_grid=[0.1, 0.4, 1.6] if norm == "l2" else [0.01, 0.04, 0.16],
            box=box,
            batch_size=4,
        )
        truth = torch.tensor(exact, dtype=torch.float64)
        assert bool((certified.radius > 0).all())
        assert bool((certified.radius <= truth).all())
        assert bool((truth <= attacked.radius * (1 + 1e-6)).all())
        assert float((attacked.radius / truth).median()) < 1.05
    assert all(a <= b * (1 + 1e-6) for a, b in zip(free, boxed, strict=True))
    assert any(a < 0.99 * b for a, b in zip(free, boxed, strict=True))


def test_a_spent_budget_is_told() -> None:
    model = relu_classifier(16, 8, 8, head="prototype", seed=1, shape=(1, 8, 8))
    image = points(1, (1, 8, 8))[0]
    exact = exact_radius(model, image, norm="l2")
    for seconds in (0.0, 0.1):
        found = radius_bounds(model, image, norm="l2", seconds=seconds)
        assert seconds or found.lower < found.upper * (1 - 1e-6)
        assert found.lower <= exact * (1 + 1e-6) and exact <= found.upper * (1 + 1e-6)
    with pytest.raises(TimeoutError, match="only RadiusBounds"):
        exact_radius(model, image, norm="l2", seconds=0.0)


def test_a_tie_is_at_distance_0_and_what_never_ties_is_infinitely_far() -> None:
    layers = nn.Sequential(nn.Flatten(), nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    nn.init.zeros_(layers[3].weight)  # pyright: ignore[reportArgumentType]
    nn.init.zeros_(layers[3].bias)  # pyright: ignore[reportArgumentType]
    model = Classifier.from_scores(layers, image_shape=(1, 1, 2)).double()
    for norm in NORMS:
        assert exact_radius(model, torch.rand(1, 1, 2), norm=norm) == 0.0
    layers[3].bias.data[0] = 1.0  # pyright: ignore
    for norm in NORMS:
        assert exact_radius(model, torch.rand(1, 1, 2), norm=norm) == np.inf


def test_what_it_cannot_treat_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="Conv2d"):
        exact_radius(small_classifier(), some_images(1)[0], norm="l2")
    with pytest.raises(UnsupportedError, match="without the sphere"):
        exact_radius(small_classifier(head="linear"), some_images(1)[0], norm="l2")
