"""What is certified is what runs: hidden behaviour is refused, odd networks are sound."""

# What nn.Module makes of attributes, and lists where torch's stubs want tuples.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportOperatorIssue=false
# pyright: reportOptionalSubscript=false

import sys
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_globals

from robustcl.certify import (
    certified_radius,
    crown,
    displacement,
    geodesic,
    local,
    multi_view,
    prepared_model,
    product,
    retrieval,
)
from robustcl.certify.agreement import check_agreement
from robustcl.certify.bounds.networks import network_lipschitz_bound
from robustcl.core.batching import count_forward_passes
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError, UnsupportedError, ViolationError
from robustcl.core.modules import exact_copy
from robustcl.core.objectives import score_margin
from robustcl.models.heads import PrototypeHead
from robustcl.models.inference_views import LinearView
from robustcl.models.multi_view import MultiView
from tests.network import small_classifier, some_images
from tests.network_parts import SHAPE, Called, dense, scores
from tests.odd_networks import HONEST, odd_network
from tests.planted_networks import PLANTED

METHODS: dict[str, Any] = {
    "product": product, "local": local, "crown": crown, "sound": certified_radius
}  # fmt: skip
REASONS = {
    "after normalization": "'linalg_vector_norm' has no rule",
    "hooks": "has forward hooks",
    "replaced forward": "'forward' replaced on the instance",
    "subclasses": r"of its own, which bounds cannot see",
    "live BatchNorm": "train mode|running statistics|batch_norm|its buffer",
    "rare randomness": "draws random numbers",
    "Python state": "changes its (attribute|buffer)",
    "branches": "another number of images|for 3 images|looks at the numbers|other values",
}
# Refused in the past, as they are something else than their layers; their programs are plain.
PROGRAMS = (
    *("alias identity", "alias dropout", "alias dropout2d", "alias flatten", "alias F.dropout"),
    *("alias view", "alias statement", "scaled sums"),
)


def flipped(model: Classifier, images: Tensor, claim: Any, norm: str) -> Tensor:
    # Projected gradient steps in float64 within the certified balls, every point alone.
    exact = exact_copy(model)
    radius = (claim.radius.clamp(max=1e3) * (1 - 1e-9)).view(-1, 1, 1, 1)
    own = claim.predicted.clamp_min(0)
    won = torch.zeros(len(images), dtype=torch.bool)
    delta = torch.zeros_like(images.double())
    for _ in range(20):
        points = (images.double() + delta).requires_grad_()
        margin = score_margin(torch.cat([exact(point) for point in points.split(1)]), own)
        won |= margin.detach() > 0
        (slope,) = torch.autograd.grad(margin.sum(), points)
        if norm == "l2":
            delta = delta + radius * slope / slope.flatten(1).norm(dim=1).clamp_min(1e-300).view(
                -1, 1, 1, 1
            )
            size = delta.flatten(1).norm(dim=1).clamp_min(1e-300).view(-1, 1, 1, 1)
            delta = delta * (radius / size).clamp(max=1.0)
        else:
            delta = torch.minimum(torch.maximum(delta + radius * slope.sign(), -radius), radius)
    return won & (claim.radius > 0) & (claim.predicted >= 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PLANTED)
def test_what_is_not_its_layers_is_refused_or_sound(name: str, seed: int) -> None:
    model, images = odd_network(name, seed), torch.rand(2, *SHAPE)
    norm = ("l2", "linf")[seed % 2]
    if name in REASONS:
        with pytest.raises(UnsupportedError, match=REASONS[name]):
            product(model, images, norm=norm)
        return
    try:
        claims = [method(model, images, norm=norm) for method in METHODS.values()]
    except UnsupportedError:
        assert name not in (*PROGRAMS, "jump of Softplus", "extreme weights")
        return
    for claim in claims:
        assert not bool(flipped(model, images, claim, norm).any())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", HONEST)
def test_what_is_odd_but_honest_is_certified(name: str, seed: int) -> None:
    model, images = odd_network(name, seed), torch.rand(3, *SHAPE)
    norm = ("l2", "linf")[seed % 2]
    claim = certified_radius(model, images, norm=norm, slope_steps=0)
    assert int((claim.radius > 0).sum()) >= 2
    assert torch.equal(claim.predicted, exact_copy(model)(images.double()).argmax(1))
    assert not bool(flipped(model, images, claim, norm).any())


def test_global_hooks_are_refused() -> None:
    model, images = scores(dense(nn.ReLU())), torch.rand(2, *SHAPE)
    handle = nn.modules.module.register_module_forward_hook(lambda module, x, y: y * 2)
    try:
        with pytest.raises(UnsupportedError, match="hooks are set for all modules"):
            product(model, images)
    finally:
        handle.remove()
    assert not module_globals._global_forward_hooks
    assert float(product(model, images).radius.max()) > 0


def test_what_counts_passes_is_no_hidden_behaviour() -> None:
    model, images = small_classifier(), some_images(2)
    plain = product(model, images).radius
    with count_forward_passes(model.encoder) as seen:
        assert torch.equal(product(model, images).radius, plain)
        assert not exact_copy(model).encoder._forward_hooks
    assert seen == []  # the model itself was not called, only its copy


def test_what_changes_after_preparation_is_seen() -> None:
    torch.manual_seed(0)
    model, images = scores(dense(nn.ReLU())), torch.rand(2, *SHAPE)
    prepared = prepared_model(model, norm="l2", method="test")
    other = scores(dense(nn.ReLU()))
    for method in METHODS.values():
        with pytest.raises(InputError, match="a model with other numbers"):
            method(other, images, prepared=prepared)
    handle = model.encoder.backbone[1].register_forward_hook(lambda module, x, y: y)
    with pytest.raises(UnsupportedError, match=r"'encoder.backbone.1' has forward hooks"):
        product(model, images, prepared=prepared)
    handle.remove()
    model.encoder.backbone[1].weight.data.mul_(1.001)
    with pytest.raises(InputError, match="other numbers"):
        product(model, images, prepared=prepared)
    with pytest.raises(InputError, match="prepared is a int"):
        product(model, images, prepared=1)


def test_a_model_that_differs_on_a_few_images_is_seen_where_it_does() -> None:
    # The exported program has one branch; the model takes another where the first pixel is large.
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(36, 3)

        def forward(self, x: Tensor) -> Tensor:
            scores = self.linear(x.flatten(1))
            if torch.compiler.is_exporting():
                return scores
            return torch.where(x[:, :1, 0, 0] > 0.99, -scores, scores)

    torch.manual_seed(0)
    model, images = Classifier.from_scores(Sometimes(), image_shape=SHAPE), torch.rand(3, *SHAPE)
    images[:, 0, 0, 0] = 0.5
    assert float(product(model, images).radius.max()) > 0
    images[1, 0, 0, 0] = 1.0
    with pytest.raises(UnsupportedError, match=r"alone, its score of class . at point 1"):
        product(model, images)


def test_agreement_says_what_differs() -> None:
    points = torch.rand(2, *SHAPE).double()
    middle, allowed = torch.zeros(2, 3).double(), torch.full((2, 3), 1e-9).double()
    off = torch.zeros(2, 3).double()

    def alone_or_together(x: Tensor, of_one: Tensor, of_all: Tensor) -> Tensor:
        rows = [int((points[:, 0, 0, 0] == value).nonzero()) for value in x[:, 0, 0, 0]]
        return (of_one if len(x) == 1 else of_all)[rows]

    def check(of_one: Tensor, of_all: Tensor) -> None:
        model = partial(alone_or_together, of_one=of_one, of_all=of_all)
        check_agreement(model, lambda x: (middle, allowed), points)

    off[1, 2] = 1.1e-9
    with pytest.raises(UnsupportedError, match="alone, its score of class 2 at point 1"):
        check(off, middle)
    with pytest.raises(UnsupportedError, match="batch of 2, its score of class 2 at point 1"):
        check(middle, off)
    off[1, 2] = 0.9e-9
    check(off, off)
    off[0, 0] = torch.nan
    with pytest.raises(UnsupportedError, match="score of class 0 at point 0 is nan"):
        check(off, middle)


def test_a_certificate_that_its_own_points_beat_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, images = small_classifier(), some_images(4)
    monkeypatch.setattr(sys.modules["robustcl.certify._product"], "_DOWN", 1e4)
    with pytest.raises(ViolationError, match="another class: the certificate is wrong"):
        product(model, images)


def test_embeddings_without_labels_are_compared_too() -> None:
    model, images = small_classifier(), some_images(2)
    model.encoder.backbone.register_forward_hook(lambda module, x, y: y.flip(1))
    with pytest.raises(UnsupportedError, match="has forward hooks"):
        displacement(model, images, eps=0.1)
    model = small_classifier()
    prepared = network_lipschitz_bound(small_classifier(seed=1).encoder)
    with pytest.raises(InputError, match="other numbers"):
        displacement(model, images, eps=0.1, prepared=prepared)
    with pytest.raises(InputError, match="other numbers"):
        retrieval(model, images, torch.rand(4, 5), prepared=prepared)


def test_every_view_is_compared() -> None:
    model, images = small_classifier(), some_images(2)
    many = MultiView(model, [LinearView(), LinearView(torch.eye(8).flip(0))])
    assert float(multi_view(many, images).radius.max()) > 0
    many.encoder.backbone.register_forward_hook(lambda module, x, y: y)
    with pytest.raises(UnsupportedError, match="has forward hooks"):
        multi_view(many, images)


@pytest.mark.parametrize("method", [product, local, crown, certified_radius, geodesic])
def test_what_was_prepared_for_another_norm_is_refused(method: Any) -> None:
    model, images = small_classifier(), some_images(2)
    prepared = prepared_model(model, norm="l2", method="test")
    with pytest.raises(InputError, match="prepared for l2, not linf"):
        method(model, images, norm="linf", prepared=prepared)
    assert method(model, images, norm="l2", prepared=prepared).norm == "l2"


def test_the_prediction_is_the_models_own_also_where_enclosures_explode() -> None:
    # 40 layers of norm 30: intervals grow by far more than the values do.
    torch.manual_seed(0)
    blocks = [
        part for _ in range(40) for part in (nn.Linear(36, 36), nn.BatchNorm1d(36), nn.ReLU())
    ]
    network = nn.Sequential(nn.Flatten(), *blocks, nn.Linear(36, 5))
    for part in network:
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=1.0)
    network.train()
    for _ in range(40):
        network(torch.rand(64, *SHAPE))
    model = Classifier.from_scores(network.eval(), image_shape=SHAPE)
    images = torch.rand(16, *SHAPE)
    claim = product(model, images)
    assert torch.equal(claim.predicted, exact_copy(model)(images.double()).argmax(1))
    assert len(set(claim.predicted.tolist())) > 1


def test_inference_mode_and_types_change_nothing() -> None:
    model, images = small_classifier(), some_images(3)
    plain = certified_radius(model, images)
    with torch.inference_mode():
        inside = certified_radius(model, images.clone())
    assert torch.equal(inside.radius, plain.radius)
    doubled = exact_copy(model)
    assert torch.equal(certified_radius(doubled, images).radius, plain.radius)


@pytest.mark.parametrize(
    "images, words",
    [
        (torch.randint(255, (2, *SHAPE)).to(torch.uint8), "uint8; divide by 255"),
        (torch.rand(2, *SHAPE) * 255, "not in .0, 1.; divide by 255"),
        (torch.rand(2, *SHAPE) - 0.5, "normalization belongs inside"),
        (torch.rand(0, *SHAPE), "there are no images"),
        (torch.rand(*SHAPE), r"not \(B, C, H, W\)"),
        (torch.full((2, *SHAPE), torch.nan), "not finite"),
    ],
)
def test_images_are_checked_by_every_certificate(images: Tensor, words: str) -> None:
    model = scores(dense(nn.ReLU()))
    for method in METHODS.values():
        with pytest.raises(InputError, match=words):
            method(model, images)
    with pytest.raises(InputError, match=words):
        displacement(model, images, eps=0.1)


def test_networks_that_cannot_be_traced_are_refused_in_words() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.flatten(1), x

    images = torch.rand(2, *SHAPE)
    with pytest.raises(UnsupportedError, match="is a TorchScript module"):
        product(scores(torch.jit.script(dense(nn.ReLU()))), images)
    del Two
    compiled = dense(nn.ReLU())
    compiled.compile()
    model = small_classifier()
    model.encoder.backbone.compile()
    with pytest.raises(UnsupportedError, match="is compiled"):
        product(model, some_images(2))


def test_a_network_may_keep_what_it_computes() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        self.seen = torch.relu(self.first(x.flatten(1)))
        return self.last(self.seen)

    model = scores(Called(forward, first=nn.Linear(36, 8), last=nn.Linear(8, 3)))
    model(torch.rand(2, *SHAPE))  # leaves a tensor with a history behind
    assert float(certified_radius(model, torch.rand(2, *SHAPE)).radius.max()) > 0


def test_an_image_without_an_embedding_stops_nothing() -> None:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(36, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False)]
    encoder = Encoder(nn.Sequential(*layers), image_shape=SHAPE)
    model = Classifier(encoder, PrototypeHead(torch.randn(3, 4)))
    images = torch.cat([torch.rand(1, *SHAPE), torch.zeros(1, *SHAPE), torch.rand(1, *SHAPE)])
    for method in (*METHODS.values(), geodesic):
        claim = method(model, images)
        assert claim.predicted[1] == -1 and claim.radius[1] == 0.0 and claim.rival[1] == -1
        assert bool((claim.predicted[[0, 2]] >= 0).all()) and float(claim.radius[0]) > 0


def test_weights_of_another_shape_count_as_they_are() -> None:
    # torch takes the shapes of the tensors, whatever the attributes say.
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(128, 2))
    network[0].weight = nn.Parameter(torch.randn(2, 1, 1, 1))
    model, images = scores(network), torch.rand(2, *SHAPE)
    for norm in ("l2", "linf"):
        claim = certified_radius(model, images, norm=norm)
        assert float(claim.radius.min()) > 0
        assert not bool(flipped(model, images, claim, norm).any())
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    network[1].bias = nn.Parameter(torch.randn(1, 2))
    with pytest.raises(UnsupportedError, match="bias of shape"):
        product(scores(network), torch.rand(1, *SHAPE))


def test_what_is_no_classifier_is_refused() -> None:
    with pytest.raises(InputError, match="Linear is no Classifier"):
        product(nn.Linear(2, 2), torch.rand(1, *SHAPE))


def test_what_cannot_be_exported_is_refused_and_nothing_else_is_printed(capfd) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x.flatten(1)))
        return self.last(h if bool(h.sum() > 0) else -h)

    model = scores(Called(forward, first=nn.Linear(36, 8), last=nn.Linear(8, 3)))
    with pytest.raises(UnsupportedError, match="looks at the numbers it computes"):
        product(model, torch.rand(2, *SHAPE))
    assert capfd.readouterr() == ("", "")
