"""Copies in float64: whatever a network keeps on itself, and what cannot be copied."""

import copy
import threading
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from robustcl.core.classifier import Classifier
from robustcl.core.errors import UnsupportedError
from robustcl.core.modules import exact_copy
from tests.network import SHAPE, small_classifier, some_images

Pair = namedtuple("Pair", ["hidden", "scores"])


class Keeping(nn.Module):
    """A network that keeps what a function makes of its hidden values."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 5), nn.Linear(5, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x.flatten(1)))
        self.last = self.function(hidden)
        return self.second(hidden)


class Holder:
    """A plain object with an attribute."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


def assert_copied(module: nn.Module) -> nn.Module:
    images = some_images(4)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    wants = [weight.requires_grad for weight in module.parameters()]
    copied = exact_copy(module)
    assert all(weight.dtype == torch.float64 for weight in copied.parameters())
    assert not any(weight.requires_grad or weight.is_inference() for weight in copied.parameters())
    assert not any(part.training for part in copied.modules())
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [part.training for part in module.modules()] == modes
    assert [weight.requires_grad for weight in module.parameters()] == wants
    scores = copied(images.double())
    assert scores.dtype == torch.float64
    reference = copy.deepcopy(before)
    assert reference.keys() == copied.state_dict().keys()
    for name, value in copied.state_dict().items():
        assert torch.equal(value, reference[name].to(value))
    points = images.double().requires_grad_()
    torch.autograd.grad(copied(points).sum(), points)
    return copied


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h,
        lambda h: [h, {"a": (h,)}],
        lambda h: OrderedDict(hidden=h),
        lambda h: Pair(h, h.sum()),
        Holder,
        lambda h: Holder([Holder(h)]),  # pyright: ignore[reportArgumentType]
        lambda h: SimpleNamespace(hidden=h),
        lambda h: {id(h): h.detach()},
        lambda h: h.argmax(1),
        lambda h: (h > 0, "a word", 3, None),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_networks_that_keep_activations_are_copied(function, inside: bool) -> None:
    module = Keeping(function)
    with torch.inference_mode(inside):
        module(some_images(2))  # leaves something behind, with a history or of inference mode
    kept = module.last
    assert_copied(module)
    assert module.last is kept


def test_an_activation_is_copied_without_its_history() -> None:
    module = Keeping(lambda h: h)
    module(some_images(2))
    copied = exact_copy(module)
    assert copied.last is not module.last and copied.last.grad_fn is None
    assert torch.equal(copied.last.float(), module.last.detach())
    assert module.last.grad_fn is not None


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_networks_of_every_type_keep_their_values(kind: torch.dtype) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    assert_copied(module.to(kind).train())
    model = small_classifier().to(kind)
    copied = exact_copy(model)
    assert copied.encoder.mean.dtype == torch.float64
    assert float(copied.encoder.mean) == float(model.encoder.mean)


def test_a_tensor_that_is_no_buffer_computes_in_float64_too() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.randn(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weight

    module = Plain()
    copied = exact_copy(module)
    assert module.weight.dtype == torch.float32
    assert torch.equal(copied.weight, module.weight.double())
    assert copied(some_images(2).double()).dtype == torch.float64


def test_shared_weights_stay_shared() -> None:
    first, second = nn.Linear(64, 64), nn.Linear(64, 64)
    second.weight = first.weight
    copied = assert_copied(nn.Sequential(nn.Flatten(), first, second))
    assert copied[1].weight is copied[2].weight  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_layers_are_copied(wrap: Callable[[nn.Module], nn.Module]) -> None:
    module = nn.Sequential(nn.Flatten(), wrap(nn.Linear(64, 3)))
    module(some_images(2))
    assert_copied(module)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", [torch.jit.script, nn.DataParallel])
def test_script_and_parallel_modules_are_copied(how: Callable[[nn.Module], nn.Module]) -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 3))
    module = how(copy.deepcopy(plain))
    assert_copied(module)
    model = Classifier.from_scores(how(copy.deepcopy(plain)), image_shape=SHAPE)
    images = some_images(3).double()
    assert torch.equal(exact_copy(model)(images), exact_copy(plain)(images))


def test_weights_of_inference_mode_are_copied_as_weights() -> None:
    with torch.inference_mode():
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.BatchNorm1d(3))
    copied = exact_copy(module)
    assert len(list(copied.parameters())) == 4
    assert not any(part.is_inference() for part in copied.state_dict().values())
    with torch.inference_mode():
        again = exact_copy(nn.Linear(2, 2).double())
    assert not again.weight.is_inference()


class Stubborn(nn.Linear):
    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        return self


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda m: setattr(m, "lock", threading.Lock()), "cannot be copied in float64"),
        (lambda m: setattr(m, "rows", (row for row in ())), "remove what cannot be copied"),
        (lambda m: setattr(m, "second", Stubborn(5, 3)), "'second.weight' stays torch.float32"),
        (
            lambda m: m.register_buffer("phase", torch.ones(2, dtype=torch.complex64)),
            "'phase' stays torch.complex64",
        ),
        (
            lambda m: m.register_parameter(
                "phase", nn.Parameter(torch.ones(2, dtype=torch.complex64))
            ),
            "'phase' stays torch.complex64",
        ),
    ],
)
def test_what_cannot_be_copied_is_refused_in_one_line(spoil, words: str) -> None:
    module = Keeping(lambda h: h)
    spoil(module)
    with pytest.raises(UnsupportedError) as caught:
        exact_copy(module)
    assert words in str(caught.value) and "\n" not in str(caught.value)
