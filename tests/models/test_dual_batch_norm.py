"""Two BatchNorm branches: each sees its own images only, and the model comes back as it was."""

import pytest
import torch
from torch import nn

from robustcl.core.errors import InputError
from robustcl.models.dual_batch_norm import (
    ADVERSARIAL,
    CLEAN,
    DualBatchNorm,
    join_batch_norm,
    split_batch_norm,
    using_branch,
)
from robustcl.models.encoders import cifar_resnet18


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6),
        nn.BatchNorm1d(6),
    )  # fmt: skip


def images(shift: float) -> torch.Tensor:
    return torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(1)) + shift


def test_a_branch_sees_only_its_own_statistics() -> None:
    model, alone = network().train(), network().train()
    assert split_batch_norm(model) == 2
    with using_branch(model, CLEAN):
        model(images(0.0))
    with using_branch(model, ADVERSARIAL):
        model(images(5.0))
    alone(images(5.0))
    fresh = network()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    assert join_batch_norm(model, ADVERSARIAL) == 2
    for name, value in alone.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    # What the clean branch saw is what a network that was only shown clean images saw.
    fresh.train()(images(0.0))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(kept[f"1.clean.{name}"], fresh.state_dict()[f"1.{name}"])
        assert not torch.equal(kept["1.clean.running_mean"], kept["1.adversarial.running_mean"])


def test_joining_restores_names_and_outputs() -> None:
    model = network().eval()
    names, before = list(model.state_dict()), model(images(0.0))
    split_batch_norm(model)
    assert torch.equal(model(images(0.0)), before)  # both start as copies
    assert list(model.state_dict()) != names
    join_batch_norm(model, CLEAN)
    assert list(model.state_dict()) == names and torch.equal(model(images(0.0)), before)
    assert not any(isinstance(part, DualBatchNorm) for part in model.modules())


def test_the_branch_is_as_before_also_after_an_exception() -> None:
    model = network()
    split_batch_norm(model)
    layer = model[1]
    assert isinstance(layer, DualBatchNorm) and layer.branch == ADVERSARIAL

    def fail() -> None:
        with using_branch(model, CLEAN):
            assert layer.branch == CLEAN
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert layer.branch == ADVERSARIAL


def test_resnet_has_all_its_layers_split() -> None:
    model = cifar_resnet18()
    count = sum(isinstance(part, nn.BatchNorm2d) for part in model.modules())
    names = list(model.state_dict())
    assert split_batch_norm(model) == count == 20
    assert join_batch_norm(model) == count and list(model.state_dict()) == names


def test_a_layer_in_two_places_stays_one() -> None:
    shared = nn.BatchNorm1d(3)
    inner = nn.Sequential(shared)
    model = nn.Sequential(shared, nn.Linear(3, 3), inner, shared)
    split_batch_norm(model)
    assert model[0] is inner[0] is model[3]
    join_batch_norm(model, CLEAN)
    assert model[0] is inner[0] is model[3] is shared


def test_a_network_without_batch_norm_has_one_branch() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    assert split_batch_norm(model) == 0 == join_batch_norm(model)
    with using_branch(model, CLEAN):
        model(images(0.0))


def test_refuses_an_unknown_branch() -> None:
    with pytest.raises(InputError, match="'pgd'"), using_branch(network(), "pgd"):
        pass
