"""Deterministic certificates: below the exact radius, never beaten, best when combined."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from robustcl import attacks
from robustcl.certify import METHODS, certified_radius, crown, local, prepared_model, product
from robustcl.certify._certified_radius import STAIRS, STEPS
from robustcl.certify._crown import Effort, crown_pairs
from robustcl.certify._local import first_radii, local_pairs, staircase
from robustcl.certify._product import product_pairs
from robustcl.certify.verification_problem import verification_problem
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.core.objectives import misclassify
from robustcl.models.encoders import MaxMin
from robustcl.models.heads import LinearHead, PrototypeHead
from tests.affine import affine_classifier, exact_distance
from tests.exact_radius import exact_radius
from tests.families import FAMILIES, family, images_and_directions
from tests.network import small_classifier, some_images

NORMS = get_args(CertifiedNorm)
SOUND: dict[str, Any] = {
    "product": product, "local": local, "crown": crown, "sound": certified_radius
}  # fmt: skip


def with_head(name: str, head: str) -> Classifier:
    encoder = family(name)
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(4, 6, generator=generator)
    if head == "scores":
        network = nn.Sequential(encoder.backbone, nn.Linear(6, 4).double())
        return Classifier.from_scores(network, image_shape=encoder.image_shape).double().eval()
    bias = 0.3 * torch.randn(4, generator=generator)
    made = PrototypeHead(weight) if head == "prototype" else LinearHead(weight, bias)
    return Classifier(encoder, made).double().eval()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("head", ["prototype", "linear", "scores"])
@pytest.mark.parametrize("name", FAMILIES)
def test_no_attack_beats_the_best_and_none_is_better(
    name: str, head: str, norm: CertifiedNorm
) -> None:
    model = with_head(name, head)
    images, _ = images_and_directions(6)
    claims = {key: method(model, images, norm=norm) for key, method in SOUND.items()}
    best = claims["sound"]
    for claim in claims.values():
        # The same search from a better start may end a little below; local has fewer stairs.
        assert bool((claim.radius <= best.radius * 1.05 + 1e-9).all())
        assert bool((claim.radius >= claims["product"].radius).all())
        assert torch.equal(claim.predicted, model(images).argmax(1))
    result = attacks.attacked_radius(
        "pgd",
        misclassify(model, best.predicted),
        images,
        norm=norm,
        eps_grid=[float(best.radius.max()) * 4 + 1e-6],
        box=None,
        batch_size=16,
        steps=20,
    )
    for claim in claims.values():
        assert bool((claim.radius <= result.radius * (1 + 1e-6)).all())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", SOUND)
def test_is_exact_on_an_affine_model(method: str, norm: CertifiedNorm) -> None:
    model = affine_classifier()
    images = torch.rand(
        20, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    radius = SOUND[method](model, images, norm=norm).radius
    exact = exact_distance(model, images, norm)
    assert bool((radius <= exact * (1 + 1e-12)).all())
    torch.testing.assert_close(radius, exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_comes_close_to_the_exact_radius(norm: CertifiedNorm) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
    model = Classifier.from_scores(network, image_shape=(1, 4, 4)).double()
    images = torch.rand(12, 1, 4, 4, dtype=torch.float64)
    exact = torch.tensor([exact_radius(model, image, norm=norm) for image in images])
    radii = {name: method(model, images, norm=norm).radius for name, method in SOUND.items()}
    for radius in radii.values():
        assert bool((radius <= exact * (1 + 1e-7)).all())
    assert float((radii["sound"] / exact).median()) > 0.83
    assert float((radii["sound"] / radii["product"]).median()) > 2.0
    assert float((radii["sound"] * 1.1 / exact).max()) > 1.0  # a planted factor would be seen
    split = certified_radius(model, images, norm=norm, slope_steps=15, splits=4).radius
    assert bool((split <= exact * (1 + 1e-7)).all())
    assert float((split / exact).median()) > 0.93


def test_a_rival_that_the_runner_up_hides_is_counted() -> None:
    # Class 2 is far behind but steep; the nearest boundary is with it, not with the runner-up.
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 3))
    network[1].weight.data = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 50.0]])  # pyright: ignore[reportArgumentType]
    network[1].bias.data = torch.tensor([1.0, 0.9, -1.0])  # pyright: ignore[reportArgumentType]
    model = Classifier.from_scores(network, image_shape=(1, 1, 2))
    claim = certified_radius(model, torch.zeros(1, 1, 1, 2))
    assert claim.rival.tolist() == [2]
    assert float(claim.radius) == pytest.approx(2.0 / 50.0, rel=1e-6)


def test_the_staircase_is_an_integral() -> None:
    # Slopes 1, 3 and then 10: a margin of 2 lasts for one stair and a third of the next.
    edges = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    slopes = torch.tensor([[[1.0], [3.0]]], dtype=torch.float64)
    beyond = torch.tensor([[10.0]], dtype=torch.float64)
    none = torch.zeros_like(slopes)
    for margin, radius in ((0.5, 0.5), (2.0, 1 + 1 / 3), (5.0, 2.1), (-1.0, 0.0)):
        found = staircase(torch.tensor([[margin]]).double(), slopes, none, edges, beyond)
        assert float(found) == pytest.approx(radius, rel=1e-8)
        assert float(found) <= radius
    # A bound over the larger ball holds in the smaller one; a bend is paid at the outer radius.
    falling = slopes.flip(1)
    assert float(staircase(torch.ones(1, 1).double(), falling, none, edges, beyond)) < 1.0 + 1e-9
    bend = torch.tensor([[[0.5], [9.0]]], dtype=torch.float64)
    found = staircase(torch.tensor([[2.0]]).double(), slopes, bend, edges, beyond)
    assert float(found) == pytest.approx(1.0, rel=1e-8)


def test_the_method_that_binds_is_named() -> None:
    model, images = small_classifier(), some_images(8)
    claim = certified_radius(model, images)
    names = ("product", "crown", "local")
    for row, image in enumerate(images.split(1)):
        task = verification_problem(prepared_model(model, norm="l2", method="test"), image)
        stages, ceiling = [product_pairs(task)], first_radii(task)
        stages.append(crown_pairs(task, stages[0], ceiling, Effort(STEPS)))
        stages.append(local_pairs(task, stages[1], ceiling, stairs=STAIRS))
        values = [float(stage[0, claim.rival[row]]) for stage in stages]
        number = names.index(claim.method[row])
        assert values[number] == pytest.approx(float(claim.radius[row]), rel=1e-12)
        assert values[number] == max(values)
        assert number == 0 or values[number] > values[number - 1]
    assert set(claim.method) & {"local", "crown"}


@pytest.mark.parametrize("layer", [nn.Hardswish(), nn.Mish(), nn.SELU(), nn.ReLU6()])
def test_every_activation_gains_by_balls(layer: nn.Module) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), layer, nn.Linear(8, 3))
    model = Classifier.from_scores(network, image_shape=(1, 4, 4))
    images = some_images(4)[:, :, :4, :4]
    claim = certified_radius(model, images)
    assert bool((claim.radius >= product(model, images).radius).all())
    assert set(claim.method) & {"crown", "local"}


def test_an_encoder_that_normalizes_itself_is_certified_alike() -> None:
    class Normalized(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.normalize(self.inner(images), dim=1)

    model, images = small_classifier(), some_images(4)
    inner = model.encoder
    outer = Encoder(Normalized(inner.backbone), image_shape=inner.image_shape)
    outer.mean, outer.std = inner.mean, inner.std
    twin = Classifier(outer, model.head)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(
        certified_radius(model, images).radius, certified_radius(twin, images).radius
    )


def test_a_network_in_train_mode_is_certified_in_eval_mode_and_left_alone() -> None:
    layers = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), MaxMin(),
        nn.Linear(16, 3),
    )  # fmt: skip
    model = Classifier.from_scores(layers, image_shape=(1, 4, 4))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = some_images(4)[:, :, :4, :4]
    assert isinstance(certified_radius(model, images).radius, Tensor)
    assert all(part.training for part in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_float32_is_left_alone_where_products_are_rounded_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("robustcl.certify.preparation._CHEAP", 1000)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 3))
    model = Classifier.from_scores(network, image_shape=(3, 16, 16))
    assert prepared_model(model, norm="l2", method="test").fast.dtype == torch.float32
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert prepared_model(model, norm="l2", method="test").fast.dtype == torch.float64
    finally:
        torch.set_float32_matmul_precision(before)


def test_float32_and_float64_agree_on_a_larger_network(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.GELU(), nn.Conv2d(8, 8, 3), MaxMin(), nn.Flatten(),
        nn.Linear(200, 4),
    )  # fmt: skip
    model = Classifier.from_scores(network, image_shape=(3, 16, 16)).eval()
    images = torch.rand(4, 3, 16, 16)
    for method in (local, crown):
        exact = method(model, images)
        monkeypatch.setattr("robustcl.certify.preparation._CHEAP", 100)
        assert prepared_model(model, norm="l2", method="test").fast.dtype == torch.float32
        rough = method(model, images)
        monkeypatch.undo()
        # Besides rounding, the searches end at other radii.
        torch.testing.assert_close(rough.radius, exact.radius, rtol=0.1, atol=0)


def test_bad_input_is_refused() -> None:
    model, images = small_classifier(), some_images(2)
    with pytest.raises(InputError, match="not finite"):
        certified_radius(model, images * torch.nan)
    with pytest.raises(InputError, match=r"\(1, 4, 8\)"):
        crown(model, images[:, :, :4])
    with pytest.raises(InputError, match="stairs 0 is below 1"):
        local(model, images, stairs=0)
    with pytest.raises(InputError, match="steps 1 is below 2"):
        crown(model, images, steps=1)
    with pytest.raises(InputError, match="slope_steps -1 is below 0"):
        crown(model, images, slope_steps=-1)
    with pytest.raises(InputError, match="splits 9 with slope_steps 10"):
        certified_radius(model, images, slope_steps=10, splits=9)
    with pytest.raises(InputError, match="splits 2 with slope_steps 0"):
        crown(model, images, splits=2)
    with pytest.raises(InputError, match="prepared for l2"):
        product(
            model, images, norm="linf", prepared=prepared_model(model, norm="l2", method="product")
        )
    assert {name for name, m in METHODS.items() if m.guarantee == "deterministic"} == {
        *SOUND,
        "geodesic",
        "multi_view",
    }


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", SOUND)
def test_weights_in_another_order_in_memory_change_nothing(name: str, norm: CertifiedNorm) -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU())
    network = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 5)).eval()
    images = torch.rand(2, 3, 6, 6)
    model = Classifier.from_scores(network, image_shape=(3, 6, 6))
    wanted = SOUND[name](model, images, norm=norm).radius
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    for given in (images, images.contiguous(memory_format=torch.channels_last)):
        found = SOUND[name](model, given, norm=norm).radius
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-12)
