"""What an adversary wrote to beat the certificates, and what certifying does to its process."""

# What nn.Module makes of attributes.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportOperatorIssue=false

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustcl.certify import certified_radius, crown, local, product
from robustcl.certify.bounds.plain_modules import check_still, no_draws, state_of
from robustcl.certify.one_thread import each
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import UnsupportedError
from tests.network import small_classifier, some_images
from tests.network_parts import SHAPE, Called, scores

METHODS: dict[str, Any] = {
    "product": product, "local": local, "crown": crown, "sound": certified_radius
}  # fmt: skip

SLOPES = torch.stack([torch.ones(36), -torch.ones(36)]) / 36


def two_classes(network: nn.Sequential) -> Classifier:
    with torch.no_grad():
        network[1].weight.copy_(SLOPES)
        network[1].bias.zero_()
    return scores(network)


def bent(x: Tensor) -> Tensor:
    return torch.where(x < 1.0, x, -3.0 * x)


class OwnCall(nn.Sequential):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(bent(x))


class OwnCopy(nn.Sequential):
    def __deepcopy__(self, memo: dict) -> "OwnCopy":
        return self


class Guarded(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.last, self.kind = nn.Linear(36, 2), kind

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Tensor):  # which a proxy is not
            value = x.max()
            looks = {
                "bool": lambda: bool(value > 1.0),
                "item": lambda: value.item() > 1.0,
                "numpy": lambda: value.detach().numpy() > 1.0,
            }
            if looks[self.kind]():
                x = x / 255
        return self.last(x.flatten(1))


class Shy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(36, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(x.flatten(1))
        return -y if torch.is_grad_enabled() else y


class OwnWeight(nn.Parameter):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            if func is nn.functional.linear:
                args = (bent(args[0]), *args[1:])
            return func(*args, **(kwargs or {}))


class OwnHead(nn.Module):
    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(36, 2)

    def affine(self) -> tuple[Tensor, Tensor]:
        return self.last.weight, self.last.bias

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.last(bent(embeddings))


def adversarial(name: str) -> Classifier:
    if name == "call":
        return two_classes(OwnCall(nn.Flatten(), nn.Linear(36, 2)))
    if name == "copy":
        return two_classes(OwnCopy(nn.Flatten(), nn.Linear(36, 2)))
    if name == "weight":
        model = two_classes(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)))
        model.encoder.backbone[1].weight = OwnWeight(SLOPES)
        return model
    if name == "head":
        return Classifier(Encoder(nn.Flatten(), image_shape=SHAPE), OwnHead(), normalizes=False)
    return scores(Shy() if name == "shy" else Guarded(name))


@pytest.mark.parametrize(
    "name, words",
    [
        ("call", "__call__.. of its own"),
        ("copy", "__deepcopy__.. of its own"),
        ("weight", "is a OwnWeight"),
        ("head", "OwnHead does not compute what its affine"),
        ("shy", "other values"),
        ("bool", "looks at the numbers"),
        ("item", "looks at the numbers"),
        ("numpy", "looks at the numbers"),
    ],
)
def test_what_an_adversary_hides_is_refused(name: str, words: str) -> None:
    model, images = adversarial(name), torch.rand(2, *SHAPE)
    for method in METHODS.values():
        with pytest.raises(UnsupportedError, match=words):
            method(model, images)


def test_threads_may_certify_at_the_same_time_and_others_go_on() -> None:
    model, images = small_classifier(), some_images(2)
    plain, other = product(model, images).radius, nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    failed: list[Exception] = []
    done = threading.Event()

    def bystander() -> None:  # which draws from torch's own generator as well
        while not done.is_set():
            try:
                other(torch.rand(1, 4))
            except Exception as error:  # noqa: BLE001 (whatever certifying does to others)
                failed.append(error)

    begun = threading.Thread(target=bystander)
    interval = sys.getswitchinterval()
    try:
        sys.setswitchinterval(1e-5)
        begun.start()
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda _: product(model, images).radius, range(9)))
    finally:
        done.set()
        begun.join()
        sys.setswitchinterval(interval)
    assert all(torch.equal(radius, plain) for radius in found)
    assert failed == []


def test_buffers_that_batch_norm_writes_are_seen() -> None:
    # Its running statistics change without a change of their versions.
    def forward(self: Any, x: Tensor) -> Tensor:
        h, norm = self.last(x.flatten(1)), self.norm
        functional.batch_norm(h[:, :, None].expand(-1, -1, 2), norm.running_mean, norm.running_var,
                              training=True)  # fmt: skip
        return h

    network = Called(forward, last=nn.Linear(36, 3), norm=nn.BatchNorm1d(3))
    before = state_of(network)
    network(torch.rand(2, *SHAPE))
    with pytest.raises(UnsupportedError, match=r"its buffer 'norm.running_mean'"):
        check_still(network, before)


def test_draws_from_generators_of_ones_own_are_seen() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.last(x.flatten(1)) + 1e-9 * torch.rand((), generator=self.kept[0])

    network = Called(forward, last=nn.Linear(36, 3))
    network.kept = [torch.Generator().manual_seed(0)]
    with pytest.raises(UnsupportedError, match=r"draws random numbers|cannot be copied"):
        product(scores(network), torch.rand(2, *SHAPE))
    with pytest.raises(UnsupportedError, match="draws random numbers"), no_draws():
        network(torch.rand(2, *SHAPE))


def test_forked_children_still_take_gradients() -> None:
    model, images = small_classifier(), some_images(2)
    product(model, images)
    points = images.clone().requires_grad_()
    model(points).sum().backward()
    child = os.fork()
    if not child:
        try:
            model(images.clone().requires_grad_()).sum().backward()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_who_interrupts_does_not_wait_for_what_has_not_begun() -> None:
    begun: list[int] = []

    def item(number: int) -> int:
        begun.append(number)
        if number == 0:
            raise KeyboardInterrupt
        time.sleep(0.05)
        return number

    before, threads = torch.get_num_threads(), threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        each(item, range(200), workers=2)
    assert len(begun) < 20
    assert torch.get_num_threads() == before and threading.active_count() == threads
