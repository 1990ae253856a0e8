"""What strangers bring to `Classifier`: every network works, or is refused in one line."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustcl.attacks import attacked_radius
from robustcl.certify import certified_radius
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.core.hashes import network_hash
from robustcl.core.objectives import misclassify
from robustcl.data import Dataset
from robustcl.models.checkpoint import load_checkpoint
from robustcl.models.heads import PrototypeHead
from robustcl.models.heads.fitting import encoder_hash, fit_head
from robustcl.models.multi_view import MultiView
from tests.cli.random_checkpoint import random_checkpoint
from tests.network import small_classifier, some_images

SHAPE = (1, 8, 8)
TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def network(*, classes: int = 3, channels: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Flatten(), nn.Linear(256, classes)),
    )


def wrapped(module: nn.Module, **more: Any) -> Classifier:
    return Classifier.from_scores(module, image_shape=SHAPE, **more)


class Returning(nn.Module):
    """A network that returns what a function makes of its scores."""

    def __init__(self, function: Callable[[Tensor], Any], classes: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.layers(x))


@dataclass
class Output:
    logits: Tensor


class ModelOutput(OrderedDict):
    """As the package transformers has it."""


def refused(build: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        build()
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400
    return line


@pytest.mark.parametrize("kind", TYPES)
def test_networks_of_every_type_predict_as_they_do_themselves(kind: torch.dtype) -> None:
    module = network().to(kind).eval()
    model = wrapped(module, mean=(0.3,), std=(0.4,))
    images = some_images(5)
    assert model.encoder.mean.dtype == model.encoder.std.dtype == kind
    mean, std = (torch.tensor(value, dtype=torch.float64).to(kind) for value in (0.3, 0.4))
    wanted = module((images.to(kind) - mean) / std)
    for given in (images, images.double(), images.to(kind)):
        found = model(given)
        assert found.dtype == kind
    assert torch.equal(model(images), wanted)
    assert network_hash(module) == network_hash(copy.deepcopy(module))


@pytest.mark.parametrize("kind", TYPES)
def test_networks_of_every_type_are_attacked_and_certified(kind: torch.dtype) -> None:
    model = wrapped(network().to(kind).eval())
    images = some_images(3)
    claim = certified_radius(model, images)
    found = attacked_radius(
        "pgd", misclassify(model, claim.predicted), images, norm="l2", eps_grid=[0.5, 4.0]
    )
    assert bool((claim.radius > 0).any())
    assert bool((claim.radius <= found.radius).all())
    assert bool(torch.isfinite(found.radius).any())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("several", [False, True])
def test_encoders_of_every_type_take_a_head_and_views(kind: torch.dtype, several: bool) -> None:
    plain = small_classifier()
    encoder = Encoder(plain.encoder.backbone.to(kind), image_shape=SHAPE, mean=(0.3,), std=(0.4,))
    model = Classifier(encoder, plain.head).eval()
    if several:
        model = MultiView(model, [lambda x: x, lambda x: x.flip(3)])
    images = some_images(4)
    assert model(images).dtype == kind
    reference = small_classifier()(images)
    if not several:
        torch.testing.assert_close(model(images).float(), reference, atol=0.05, rtol=0.0)
        dataset = Dataset("random", images.permute(0, 2, 3, 1).numpy(), np.arange(4) % 2)
        assert fit_head(encoder, dataset)(images).dtype == kind
    assert len(encoder_hash(encoder)) == 64


def test_gradients_reach_images_of_another_type() -> None:
    model = wrapped(network().half().eval())
    images = some_images(2).requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).float().sum(), images)
    assert gradient.dtype == torch.float32 and bool((gradient != 0).any())


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda s: (s, s), "a tuple of 2, not one tensor (B, K)"),
        (lambda s: [s], "a list of 1"),
        (lambda s: {"logits": s, "aux": s}, "a dict with keys 'logits', 'aux'"),
        (lambda s: ModelOutput(logits=s), "as in outputs['logits']"),
        (lambda s: {}, "keys (none)"),
        (lambda s: Output(s), "a Output, not one tensor"),
        (lambda s: None, "a NoneType"),
        (lambda s: s.argmax(1), "int64 numbers"),
        (lambda s: s > 0, "bool numbers"),
        (lambda s: s.to(torch.complex64), "complex64 numbers"),
        (lambda s: s[:1], "(1, 3) for 2 images"),
        (lambda s: s.mean(0), "(3,) for 2 images"),
        (lambda s: s.sum(), "() for 2 images"),
        (lambda s: s[:, :, None, None], "(2, 3, 1, 1) for 2 images, not (2, K); wrap it to pool"),
        (lambda s: s[:, :1], "(2, 1) for 2 images, one score for all classes"),
        (lambda s: s[:, :0], "(2, 0) for 2 images"),
    ],
)
def test_what_is_not_one_tensor_of_scores_is_named_with_its_cure(function, words) -> None:
    line = refused(lambda: wrapped(Returning(function)))
    assert words in line
    assert "wrap" in line


def test_two_classes_are_enough() -> None:
    model = wrapped(Returning(lambda s: s, classes=2), class_names=("cat", "dog"))
    assert model.num_classes == 2
    assert "3 class names" in refused(
        lambda: wrapped(Returning(lambda s: s, classes=2), class_names=("a", "b", "c"))
    )


def test_an_output_that_changes_later_is_refused_too() -> None:
    module = Returning(lambda s: s)
    model = wrapped(module)
    module.function = lambda s: (s, s)
    assert "a tuple of 2" in refused(lambda: model(some_images(2)))
    encoder = Encoder(Returning(lambda s: s[:, :, None]), image_shape=SHAPE)
    whole = Classifier(encoder, PrototypeHead(torch.eye(3)))
    assert "(1, 3, 1) for 1 image, not (1, K)" in refused(lambda: whole(some_images(1)))


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.top = nn.Linear(64, 4).half(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.body(x.flatten(1)).float())


def meta() -> nn.Module:
    with torch.device("meta"):
        return network()


def complex_weights() -> nn.Module:
    module = network()
    module.register_buffer("phase", torch.ones(2, dtype=torch.complex64))
    return module


def made_in_inference() -> nn.Module:
    with torch.inference_mode():
        return network()


@pytest.mark.parametrize(
    "build, words",
    [
        (Mixed, "mixes weights of float16 ('body.weight') and float32 ('top.weight')"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)),
            "'1.weight' of the network is lazy",
        ),
        (meta, "on the meta device"),
        (made_in_inference, "made in torch.inference_mode"),
        (complex_weights, "'phase' of the network is complex64"),
        (lambda: torch.jit.freeze(torch.jit.script(network().eval())), "is frozen TorchScript"),
        (lambda: network, "is a function; give an nn.Module"),
        (
            lambda: network(channels=3),
            "fails on gray images (2, 1, 8, 8) of torch.float32: Runtime",
        ),
        (lambda: torch.jit.script(network(channels=3)), "to have 3 channels"),
        (lambda: Returning(lambda s: s @ torch.eye(3).double()), "try network.float()"),
    ],
)
def test_networks_that_cannot_be_used_are_refused(build, words) -> None:
    module = build()
    assert words in refused(lambda: wrapped(module))


@pytest.mark.parametrize(
    "terms, words",
    [
        ({"image_shape": (8, 8)}, "(8, 8) is not (C, H, W)"),
        ({"image_shape": 8}, "8 is not (C, H, W)"),
        ({"image_shape": (1, 8.5, 8)}, "(1, 8.5, 8) is not (C, H, W)"),
        ({"image_shape": (0, 8, 8)}, "write (3, 32, 32)"),
        ({"mean": 0.5}, "mean 0.5 is not 1 or 1 finite numbers"),
        ({"mean": (0.5, 0.5)}, "write one per channel"),
        ({"std": (float("nan"),)}, "finite"),
        ({"std": (0.0,)}, "is not positive"),
        ({"std": ("wide",)}, "finite numbers"),
    ],
)
def test_terms_that_cannot_be_used_are_refused(terms, words) -> None:
    assert words in refused(
        lambda: Classifier.from_scores(network(), **{"image_shape": SHAPE, **terms})
    )


def test_a_deviation_that_half_precision_rounds_to_nothing_is_refused() -> None:
    assert "not positive as torch.float16" in refused(
        lambda: wrapped(network().half(), std=(1e-9,))
    )


@pytest.mark.parametrize(
    "images, words",
    [
        (torch.zeros(2, *SHAPE, dtype=torch.uint8), "divide by 255"),
        (torch.zeros(2, *SHAPE, dtype=torch.int64), "convert to float32"),
        (torch.zeros(2, *SHAPE, dtype=torch.complex64), "complex64"),
        (torch.zeros(0, *SHAPE), "there are no images"),
        (torch.zeros(*SHAPE), "are not (B, C, H, W)"),
        (torch.zeros(2, 3, 8, 8), "but the encoder takes (1, 8, 8)"),
        (torch.zeros(2, *SHAPE).numpy(), "are a ndarray"),
        (None, "are a NoneType"),
    ],
)
def test_images_of_another_form_are_refused_at_every_call(images: Any, words: str) -> None:
    single = small_classifier()
    several = MultiView(single, [lambda x: x.float(), lambda x: x.float()], "score")
    for call in (single, single.scores, single.embeddings, single.raw_embeddings, several):
        assert words in refused(lambda: call(images))  # noqa: B023


@pytest.mark.parametrize("mode", [True, False])
def test_a_network_without_weights_works(mode: bool) -> None:
    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.flatten(1).mean(1), 0.5 - x.flatten(1).mean(1)], dim=1)

    model = wrapped(Bare().train(mode))
    images = some_images(3)
    assert model(images).shape == (3, 2)
    assert model.training is mode
    found = attacked_radius(
        "pgd", misclassify(model, model(images).argmax(1)), images, norm="l2", eps_grid=[8.0]
    )
    assert bool(torch.isfinite(found.radius).all())


class Restless(nn.Module):
    """A network that writes to itself and to the world at every call, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls, self.norm = nn.Linear(64, 3), 0, nn.BatchNorm1d(3)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("total", torch.zeros(3))

    def train(self, mode: bool = True) -> "Restless":
        super().train(mode)
        self.norm.training = True
        return self

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen = self.seen + 1  # pyright: ignore[reportIndexIssue]
        self.last = self.norm(self.layer(x.flatten(1)))
        self.total += self.last.sum(0).detach()  # pyright: ignore[reportOperatorIssue]
        return self.last + torch.rand_like(self.last)


@pytest.mark.parametrize("mode", [True, False])
def test_a_network_is_left_as_it_was(mode: bool) -> None:
    module = Restless().train(mode)
    module.layer.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    draws = torch.get_rng_state()
    wrapped(module)
    assert torch.equal(torch.get_rng_state(), draws)
    assert [part.training for part in module.modules()] == modes
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert module.calls == 0 and not hasattr(module, "last")
    assert [weight.requires_grad for weight in module.parameters()] == [False, True, True, True]
    module(some_images(2))  # its buffers are its own still
    assert module.calls == 1


def test_a_failing_network_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(64, 3)).train()
    refused(lambda: wrapped(module))
    assert all(part.training for part in module.modules())


def test_dropout_in_train_mode_is_kept_and_not_counted_with() -> None:
    module = network().train()
    model = wrapped(module)
    assert model.training and model.encoder.training and module.training
    images = some_images(4)
    assert not torch.equal(model(images), model(images))  # dropout is on, as it was asked for
    targets = copy.deepcopy(model).eval()(images).argmax(1)
    found = [
        attacked_radius("pgd", misclassify(model, targets), images, norm="l2", eps_grid=[2.0])
        for _ in range(2)
    ]
    assert torch.equal(found[0].radius, found[1].radius)
    assert module.training


def test_checkpoints_and_heads_made_within_inference_mode_take_gradients(tmp_path: Path) -> None:
    random_checkpoint(tmp_path)
    images = some_images(6)
    labels = np.arange(6) % 3
    with torch.inference_mode():
        loaded = load_checkpoint(tmp_path / "model.safetensors")
        dataset = Dataset("random", images.permute(0, 2, 3, 1).numpy(), labels)
        fitted = fit_head(loaded.encoder, dataset)
    for model in (loaded.classifier, fitted):
        assert model is not None
        points = images.clone().requires_grad_()
        torch.autograd.grad(model(points).sum(), points)
    with torch.inference_mode():
        head = PrototypeHead(torch.eye(5))
    line = refused(lambda: Classifier(loaded.encoder, head))
    assert "'weight' of the head was made in torch.inference_mode" in line


def test_from_scores_works_within_inference_mode() -> None:
    module = network().eval()
    images = some_images(3)
    with torch.inference_mode():
        model = wrapped(module, mean=(0.3,), std=(0.4,))
        inside = model(images.clone())
    assert not model.encoder.mean.is_inference()
    points = images.requires_grad_()
    (gradient,) = torch.autograd.grad(model(points).sum(), points)
    assert bool((gradient != 0).any())
    assert torch.equal(model(images), inside)


COMPILED: dict[str, Callable[[nn.Module], Any]] = {
    "script": torch.jit.script,
    "trace": lambda module: torch.jit.trace(module, torch.zeros(2, *SHAPE)),
    "compile": lambda module: torch.compile(module, backend="eager"),
    "parallel": nn.DataParallel,
}


@pytest.mark.parametrize("how", COMPILED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_and_parallel_networks_are_predicted_and_attacked(how: str) -> None:
    plain = network().eval()
    module = COMPILED[how](copy.deepcopy(plain))
    module.train(how != "trace")
    model, images = wrapped(module), some_images(3)
    assert module.training is (how != "trace")
    model.eval()
    scores = wrapped(plain)(images)
    torch.testing.assert_close(model(images), scores)
    targets = scores.argmax(1)
    terms: dict[str, Any] = {"norm": "l2", "eps_grid": [0.5, 4.0], "batch_size": 3}
    found = attacked_radius("pgd", misclassify(model, targets), images, **terms)
    wanted = attacked_radius("pgd", misclassify(wrapped(plain), targets), images, **terms)
    torch.testing.assert_close(found.radius, wanted.radius, rtol=1e-3, atol=1e-4)


def test_a_network_converted_behind_its_encoder_is_refused() -> None:
    module = network().eval()
    model = wrapped(module)
    module.half()
    assert "convert the encoder" in refused(lambda: model(some_images(2)))
    model.half()
    assert model(some_images(2)).dtype == torch.float16
    model.double()
    assert model(some_images(2)).dtype == torch.float64


def test_a_network_moved_in_inference_mode_predicts_and_is_refused_where_gradients_are_wanted() -> (
    None
):
    model, images = wrapped(network().eval()), some_images(3)
    before = model(images)
    with torch.inference_mode():
        model.double()
    with torch.no_grad():
        torch.testing.assert_close(model(images).float(), before)
    goal = misclassify(model, before.argmax(1))
    line = refused(lambda: attacked_radius("pgd", goal, images, norm="l2", eps_grid=[1.0]))
    assert "moved or converted in torch.inference_mode" in line
    assert all(weight.requires_grad for weight in model.parameters())


def test_weights_stay_where_they_are() -> None:
    module = network()
    weights = [id(weight) for weight in module.parameters()]
    model = wrapped(module)
    assert [id(weight) for weight in model.encoder.backbone.parameters()] == weights
    assert model.encoder.backbone is module
