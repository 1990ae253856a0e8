"""RoCL: the first view is attacked, and three groups go through the network."""

import pytest
import torch
from torch import nn

from robustcl.attacks import inner_ascent
from robustcl.core.errors import InputError
from robustcl.training.losses._nt_xent import nt_xent
from robustcl.training.robust._rocl import Rocl, rocl
from tests.training.robust.one_step import network, one_step, with_attack


def test_without_room_it_is_the_plain_loss_and_that_of_two_copies() -> None:
    # Without BatchNorm each view is seen alone, so the three groups are first, second, first.
    step = one_step(network(norms=False))
    found, parts = rocl(Rocl(eps=1e-9), step)
    with torch.no_grad():
        first, second = step.encode(step.views).chunk(2)
        plain = float(nt_xent(first, second))
        wanted = (2 * plain + float(nt_xent(first, first))) / 3 + plain / 256
    assert float(found) == pytest.approx(wanted, rel=1e-5)
    assert float(parts["adversarial"]) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("goal", ["loss", "shift", "supcon"])
@pytest.mark.parametrize("loss", ["simclr", "supcon"])
def test_only_the_first_view_moves_and_the_goal_rises(goal: str, loss: str) -> None:
    step, kept = one_step(network(), loss=loss, split=False), []

    def spy(raised, images, threat, **options):
        assert options["steps"] == 7 and torch.equal(images, step.views[:12])
        points = inner_ascent(raised, images, threat, **options)
        kept.append([float(raised(at).mean().detach()) for at in (images, points)])
        return points

    total, parts = rocl(Rocl(eps=0.1, goal=goal), with_attack(step, spy))
    assert kept[0][1] > kept[0][0]
    if goal == "loss":
        clean = parts["nt_xent" if loss == "simclr" else "sup_con"]
        assert float(parts["adversarial"].detach()) > float(clean.detach())
    assert all(weight.grad is None for weight in step.model.parameters())
    total.backward()


def test_the_statistics_are_those_of_the_three_groups() -> None:
    step = one_step(network(), split=False)

    def far(raised, images, threat, **_):
        return images + 10.0

    rocl(Rocl(), with_attack(step, far))
    alone = network().train()
    alone(torch.cat([step.views, step.views[:12] + 10.0]))
    found, wanted = step.model.get_submodule("1"), alone[1]
    assert isinstance(found, nn.BatchNorm2d) and isinstance(wanted, nn.BatchNorm2d)
    assert found.running_mean is not None and wanted.running_mean is not None
    assert torch.allclose(found.running_mean, wanted.running_mean)
    assert int(found.num_batches_tracked or 0) == 1


@pytest.mark.parametrize(
    ("options", "message"), [({"attack": "free"}, "attack=fast"), ({"weight": -1.0}, "weight -1.0")]
)
def test_refuses(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Rocl(**options)
