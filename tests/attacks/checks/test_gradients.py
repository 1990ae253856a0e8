"""Gradients inside forward are seen however they are taken, and nothing else is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad

from robustcl.attacks.checks.gradients import takes_gradients
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode

torch_layer = nn.Linear(4, 3)


def energy(points: Tensor) -> Tensor:
    return torch_layer(points.flatten(1)).square().sum()


def by_grad(images: Tensor) -> Tensor:
    with torch.enable_grad():
        start = images.detach().requires_grad_()
        return grad(energy(start), start)[0]


def by_backward(images: Tensor) -> Tensor:
    with torch.enable_grad():
        start = images.detach().clone().requires_grad_()
        torch.autograd.backward(energy(start))
    assert start.grad is not None
    return start.grad


def by_function(images: Tensor) -> Tensor:
    return torch.func.grad(energy)(images)


def by_an_optimizer(images: Tensor) -> Tensor:
    with torch.enable_grad():
        moved = nn.Parameter(images.clone())
        optimizer = torch.optim.SGD([moved], lr=0.1)
        energy(moved).backward()
        optimizer.step()
    return moved.detach()


def by_no_means(images: Tensor) -> Tensor:
    return images


def graph_only(images: Tensor) -> Tensor:
    with torch.enable_grad():
        return energy(images.detach().requires_grad_()).detach() * images


class Network(nn.Module):
    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return torch_layer((images + 0.1 * self.change(images)).flatten(1))


def flag_of(change: Callable[[Tensor], Tensor]) -> Any:
    model = Classifier.from_scores(Network(change), image_shape=(1, 2, 2)).eval()
    with eval_mode(model):
        return takes_gradients(model, torch.rand(3, 1, 2, 2))


@pytest.mark.parametrize("change", [by_grad, by_backward, by_function, by_an_optimizer])
def test_every_way_is_seen(change: Callable[[Tensor], Tensor]) -> None:
    flag = flag_of(change)
    assert (flag.name, flag.images, flag.rule) == ("test_time_optimization", (), 13)


@pytest.mark.parametrize("change", [by_no_means, graph_only])
def test_a_graph_that_is_never_walked_back_is_no_gradient(change) -> None:
    assert flag_of(change) is None


def test_gradients_that_are_not_switched_on_are_refused_with_the_cure() -> None:
    class Forgetful(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if len(images) == 3:
                start = images.detach().requires_grad_()
                images = grad(energy(start), start)[0]
            return torch_layer(images.flatten(1))

    model = Classifier.from_scores(Forgetful(), image_shape=(1, 2, 2)).eval()
    with pytest.raises(InputError, match="enable_grad"):
        takes_gradients(model, torch.rand(3, 1, 2, 2))


def test_other_errors_pass() -> None:
    class Ill(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if len(images) == 3:
                raise RuntimeError("something else")
            return torch_layer(images.flatten(1))

    model = Classifier.from_scores(Ill(), image_shape=(1, 2, 2)).eval()
    with pytest.raises(RuntimeError, match="something else"):
        takes_gradients(model, torch.rand(3, 1, 2, 2))
    assert torch.is_grad_enabled()
