"""Five defenses are found out and five ordinary models are not; nothing else is changed."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from robustcl import attacks
from robustcl.attacks.checks import NAMES, model_flags
from robustcl.attacks.checks.known_answers import DEFENSES, broken_defense
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.core.objectives import misclassify
from robustcl.core.threat import Threat
from robustcl.models.encoders import MaxMin
from robustcl.models.heads import linear
from tests.trained import SHAPE, digits, scored, trained

EPS: dict[Norm, float] = {"linf": 0.2, "l2": 1.0}  # at which the undefended network falls
# What is true of a defense besides its own flag: no gradient where scores are rounded or have
# saturated, and gradients that mislead around an optimization and in each draw of a ripple.
TRUE_TOO = {
    "gradient_masking": {"planted"},
    "randomized": {"gradient_masking", "planted"},
    "softmax_scores": {"zero_gradient"},
    "quantized_input": {"zero_gradient", "planted"},
    "test_time_optimization": {"gradient_masking", "planted"},
}


def names(model: Classifier, images: Tensor, threat: Threat) -> set[str]:
    return {flag.name for flag in model_flags(model, images, threat)}


def broken_by(model: Classifier, images: Tensor, points: Tensor) -> float:
    return float((model(images).argmax(1) != model(points).argmax(1)).float().mean())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("flag", DEFENSES)
def test_a_defense_looks_robust_raises_its_flag_and_is_none(flag: str, norm: Norm) -> None:
    network, threat = trained(nn.Tanh), Threat(norm, EPS[norm])
    images, labels = (part[:32] for part in digits("test"))
    found, shared = {}, {"seeds": range(32), "batch_size": 32, "steps": 20, "restarts": 1}
    for name, model in (("twin", network), ("defended", broken_defense(flag, network))):
        classifier = scored(model)
        predicted = classifier(images).argmax(1)
        assert float((predicted == labels).float().mean()) > 0.9
        aim = misclassify(classifier, predicted)
        found[name] = attacks.run_attack("pgd", aim, images, threat, **shared)
    assert float(found["twin"].success.float().mean()) >= 0.95  # the undefended twin falls
    assert float(found["defended"].success.float().mean()) < 0.6  # under the same code and budget
    spoiled = scored(broken_defense(flag, network))
    assert broken_by(spoiled, images, found["twin"].adversarials) > 0.9
    raised = names(spoiled, images, threat)
    assert flag in raised
    assert raised <= {flag} | TRUE_TOO[flag]
    assert names(scored(network), images, threat) == set()


class Around(nn.Module):
    """A network that a defense or a mistake is put around."""

    def __init__(self, activation: Callable[[], nn.Module] = nn.Tanh) -> None:
        super().__init__()
        self.network = trained(activation)


class Noisy(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + 0.01 * torch.randn_like(images))


class Mild(Around):
    def forward(self, images: Tensor) -> Tensor:
        return torch.softmax(0.3 * self.network(images), dim=1)


class StraightThrough(Around):
    """Rounds, with a gradient that is made up."""

    def forward(self, images: Tensor) -> Tensor:
        rounded, soft = torch.floor(255 * images) / 255, 3.1 * images
        return self.network(soft + (rounded - soft).detach())


class Nudged(Around):
    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            start = images.detach().requires_grad_()
            slope = torch.autograd.grad(self.network(start).amax(1).sum(), start)[0]
        return self.network(images + 1e-4 * slope)


@pytest.mark.parametrize(
    "network, flag",
    [
        (Noisy(), "randomized"),
        (Mild(), "softmax_scores"),
        (StraightThrough(), "quantized_input"),
        (Nudged(), "test_time_optimization"),
    ],
)
@pytest.mark.parametrize("norm, eps", [("linf", 8 / 255), ("l2", 0.5)])
def test_a_mild_defense_raises_one_flag_alone(
    network: nn.Module, flag: str, norm: Norm, eps: float
) -> None:
    assert names(scored(network), digits("test")[0][:32], Threat(norm, eps)) == {flag}


class Backwards(torch.autograd.Function):
    """Hands images on and a gradient back that has nothing to do with them."""

    @staticmethod
    def forward(_, images):  # pyright: ignore[reportIncompatibleMethodOverride]
        return images.clone()

    @staticmethod
    def backward(_, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        draws = torch.Generator().manual_seed(0)
        return gradient.abs() * torch.randn(gradient.shape, generator=draws).to(gradient)


class MadeUp(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(Backwards.apply(images))


@pytest.mark.parametrize("norm, eps", [("linf", 8 / 255), ("l2", 0.5)])
def test_a_gradient_that_is_made_up_is_no_slope_on_any_image(norm: Norm, eps: float) -> None:
    flags = model_flags(scored(MadeUp()), digits("test")[0][:16], Threat(norm, eps))
    masked = next(flag for flag in flags if flag.name == "gradient_masking")
    assert masked.images == tuple(range(16))
    assert "on 16 of 16 images the gradient is not the slope" in masked.sentence
    assert {flag.name for flag in flags} <= {"gradient_masking", "planted"}


def probe() -> Classifier:
    images, labels = digits("train")
    backbone = nn.Sequential(*list(trained(nn.ReLU))[:-2])  # pyright: ignore[reportArgumentType]
    encoder = Encoder(backbone, image_shape=SHAPE).eval()
    with torch.no_grad():
        head = linear(encoder(images), labels, num_classes=10)
    return Classifier(encoder, head).eval()


class Sure(Around):
    """So sure that cross-entropy and its gradient are 0 in float32 on most images."""

    def forward(self, images: Tensor) -> Tensor:
        return 100 * self.network(images)


ORDINARY: dict[str, Callable[[], Classifier]] = {
    "small_convnet": lambda: scored(trained(nn.ReLU)),
    "gelu": lambda: scored(trained(nn.GELU)),
    "max_min": lambda: scored(trained(MaxMin)),
    "probe on the sphere": probe,
    "sure": lambda: scored(Sure(nn.ReLU)),
}


@pytest.mark.parametrize("norm, eps", [("linf", 2 / 255), ("linf", 8 / 255), ("l2", 0.5)])
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_models_raise_none(name: str, norm: Norm, eps: float) -> None:
    model, images = ORDINARY[name](), digits("test")[0][:32]
    if name == "sure":
        shares = torch.softmax(model(images), dim=1)
        assert float((shares.amax(1) == 1).float().mean()) > 0.5
    assert model_flags(model, images, Threat(norm, eps)) == ()


def test_an_untrained_resnet_raises_none() -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=10).eval()
    model = Classifier.from_scores(network, image_shape=(3, 32, 32)).eval()
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert model_flags(model, images, Threat("linf", 8 / 255)) == ()


class DarkIsDead(Around):
    """Scores do not depend on an image that is dark at its first pixel."""

    def forward(self, images: Tensor) -> Tensor:
        bright = (images[:, :1, :1, :1] > 0.5).to(images)
        return self.network(images * bright)


class RootOfNothing(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + 1e-3 * images.sqrt())


class Cut(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.detach())


def test_dead_gradients_are_named_image_by_image() -> None:
    images = digits("test")[0][:12].clone().clamp_min(1e-3)
    images[:, 0, 0, 0] = 0.1
    images[[0, 3, 4, 9], 0, 0, 0] = 0.9
    flags = model_flags(scored(DarkIsDead()), images, Threat("linf", 8 / 255))
    dead = next(flag for flag in flags if flag.name == "zero_gradient")
    assert dead.images == (1, 2, 5, 6, 7, 8, 10, 11)
    assert "8 of 12" in dead.sentence
    images[[2, 5], 0, 3, 3] = 0.0  # the root has no slope at 0
    flags = model_flags(scored(RootOfNothing()), images, Threat("linf", 8 / 255))
    assert [flag.images for flag in flags if flag.name == "zero_gradient"] == [(2, 5)]


def test_a_model_that_lets_no_gradient_through_is_flagged_and_no_crash() -> None:
    flags = model_flags(scored(Cut()), digits("test")[0][:6], Threat("l2", 0.5))
    assert [(flag.name, flag.images) for flag in flags] == [("zero_gradient", (0, 1, 2, 3, 4, 5))]


class Floored(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(torch.floor(255 * images) / 255)


def test_pixels_on_the_edges_of_cells_hide_no_rounding() -> None:
    images = (torch.round(255 * digits("test")[0][:16]) / 255).double()
    model = scored(Floored()).double()
    with torch.no_grad():
        nudged = model((images - 1e-6).clamp_min(0))
    assert bool((nudged != model(images)).any(dim=1).all())  # at the images themselves it moves
    raised = names(model.float(), images.float(), Threat("linf", 8 / 255))
    assert "quantized_input" in raised


def test_blank_pixels_on_the_kinks_of_layers_without_a_bias_are_no_wrong_slopes() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)]
    images = torch.zeros(8, *SHAPE)
    images[:, 0, 3, 3] = torch.linspace(0.2, 0.9, 8)
    assert names(scored(nn.Sequential(*layers)), images, Threat("l2", 0.5)) == set()


def test_only_images_that_differ_are_called_randomized() -> None:
    class Sometimes(Around):
        def forward(self, images: Tensor) -> Tensor:
            bright = (images[:, :1, :1, :1] > 0.5).to(images)
            return self.network(images + 0.05 * bright * torch.randn_like(images))

    images = digits("test")[0][:8].clone()
    images[[1, 6], 0, 0, 0] = 0.9
    images[[0, 2, 3, 4, 5, 7], 0, 0, 0] = 0.1
    flags = model_flags(scored(Sometimes()), images, Threat("linf", 8 / 255))
    assert [(flag.name, flag.images, flag.rule) for flag in flags] == [("randomized", (1, 6), 8)]


def test_the_same_seeds_give_the_same_flags() -> None:
    model, images = scored(broken_defense("randomized", trained(nn.Tanh))), digits("test")[0][:16]
    seeds = range(100, 116)
    first = model_flags(model, images, Threat("l2", 0.5), seeds=seeds)
    torch.manual_seed(12345)
    assert model_flags(model, images, Threat("l2", 0.5), seeds=seeds) == first
    order = [NAMES.index(flag.name) for flag in first]
    assert order == sorted(order) and len(order) >= 2


class Breaking(nn.Module):
    """Fails at one call; has a mode, weights with and without gradients, and a hook."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.calls, self.call = 0, call
        self.norm = nn.BatchNorm2d(1)
        self.layer = nn.Linear(64, 4)

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.call:
            raise RuntimeError("planned")
        with torch.enable_grad():
            start = images.detach().requires_grad_()
            self.layer(start.flatten(1)).square().sum().backward()
            assert start.grad is not None
        return self.layer(self.norm(images + 1e-4 * start.grad).flatten(1))


def outside(model: nn.Module) -> dict[str, Any]:
    numbers = (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state()))  # noqa: NPY002
    return {
        "modes": [part.training for part in model.modules()],
        "wants": [weight.requires_grad for weight in model.parameters()],
        "hooks": [len(part._forward_hooks) for part in model.modules()],
        "generators": numbers,
        "recording": torch.is_grad_enabled(),
        "saving": torch._C._autograd._top_saved_tensors_default_hooks(False),  # pyright: ignore[reportAttributeAccessIssue]
    }


# The last is beyond all calls; the others are spread over the checks, in float32 and float64.
@pytest.mark.parametrize("call", [2, 3, 8, 12, 20, 30, 60, 10**6])
def test_everything_is_as_before_also_after_an_exception(call: int) -> None:
    torch.manual_seed(0)
    network = Breaking(call)
    model = Classifier.from_scores(network, image_shape=SHAPE)
    model.train()
    network.norm.eval()
    network.layer.bias.requires_grad_(False)
    network.layer.weight.grad = torch.ones(4, 64)
    calls: list[int] = []
    network.layer.register_forward_hook(lambda *_: calls.append(1))
    images = digits("test")[0][:8].clone()
    before = outside(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    if call == 10**6:
        assert {flag.name for flag in model_flags(model, images, Threat("l2", 0.5))}
    else:
        with pytest.raises(RuntimeError, match="planned"):
            model_flags(model, images, Threat("l2", 0.5))
    assert outside(model) == before
    assert network.layer.weight.grad is not None and bool((network.layer.weight.grad == 1).all())
    assert not images.requires_grad and images.grad is None
    assert all(bool((state[name] == value).all()) for name, value in model.state_dict().items())
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_seeds_must_be_paired() -> None:
    with pytest.raises(InputError, match="3 images with 2 seeds"):
        model_flags(scored(trained(nn.Tanh)), torch.rand(3, *SHAPE), Threat("l2", 1), seeds=[0, 1])
