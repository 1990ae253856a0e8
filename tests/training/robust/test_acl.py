"""ACL and DynACL: clean and adversarial parts, branches, goals, variants and schedules."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from robustcl.attacks import inner_ascent
from robustcl.core.errors import InputError
from robustcl.core.threat import perturbation_norm
from robustcl.models.dual_batch_norm import ADVERSARIAL, CLEAN, DualBatchNorm, using_branch
from robustcl.training.robust._acl import Acl, acl
from robustcl.training.robust._dynacl import Dynacl, adversarial_share, dynacl, strength
from robustcl.training.robust.attacked import turned
from tests.training.robust.one_step import grads, network, one_step, with_attack

GOALS = ["loss", "shift", "supcon", "suncet"]
VARIANTS = [{}, {"attack": "fast"}, {"attack": "free"}, {"norm": "l2", "eps": 0.5}]


def layer(model: nn.Module) -> DualBatchNorm:
    return next(part for part in model.modules() if isinstance(part, DualBatchNorm))


def statistics(model: nn.Module, branch: str, name: str) -> Tensor:
    return layer(model).get_submodule(branch).state_dict()[name]


@pytest.mark.parametrize("loss", ["simclr", "supcon", "suncet", "simclr+suncet:weight=.5"])
def test_without_room_for_the_attack_it_is_the_plain_loss(loss: str) -> None:
    plain = one_step(network(), loss=loss, split=False)
    wanted, _ = plain.loss_at(plain.views)
    step = one_step(network(), loss=loss)
    found, parts = acl(Acl(eps=1e-9), step)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    assert float(parts["adversarial"]) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("options", VARIANTS)
def test_the_adversarial_part_is_higher_than_clean_and_than_noise(options: dict) -> None:
    method = Acl(**{"eps": 0.1, **options})
    step = one_step(network())
    _, parts = acl(method, step)
    noisy = []
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)

        def noise(loss, images, threat, generator=generator, **_):
            draw = torch.randn(images.shape, generator=generator)
            if threat.norm == "linf":
                return threat.project(images, images + threat.eps * draw.sign())
            draw = draw / draw.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            return threat.project(images, images + threat.eps * draw)

        other = with_attack(one_step(network()), noise)
        noisy.append(float(acl(method, other)[1]["adversarial"].detach()))
    found = float(parts["adversarial"].detach())
    assert found > max(noisy) and found > float(parts["nt_xent"].detach())


def test_more_steps_raise_the_loss_more() -> None:
    parts = [acl(Acl(eps=0.1, steps=n), one_step(network()))[1] for n in (1, 10)]
    assert float(parts[1]["adversarial"].detach()) > float(parts[0]["adversarial"].detach())


@pytest.mark.parametrize("goal", GOALS)
def test_the_attack_raises_its_goal(goal: str) -> None:
    step, kept = one_step(network()), []

    def spy(loss, images, threat, **options):
        points = inner_ascent(loss, images, threat, **options)
        kept.append([float(loss(at).mean().detach()) for at in (images, points)])
        assert not any(weight.requires_grad for weight in step.model.parameters())
        assert not any(part.training for part in step.model.modules())
        assert layer(step.model).branch == ADVERSARIAL
        assert bool((perturbation_norm(points - images, "linf") <= 0.1 * (1 + 1e-6)).all())
        assert float(points.min()) >= 0.0 and float(points.max()) <= 1.0
        return points

    acl(Acl(eps=0.1, goal=goal), with_attack(step, spy))
    assert kept[0][1] > kept[0][0]
    assert all(weight.requires_grad for weight in step.model.parameters())
    assert all(part.training for part in step.model.modules())


def test_a_label_aware_attack_hurts_its_loss_more_than_a_label_free_one() -> None:
    found = {}
    for goal in ("supcon", "shift"):
        step = one_step(network(), loss="supcon")
        found[goal] = float(acl(Acl(eps=0.1, goal=goal), step)[1]["adversarial"].detach())
    assert found["supcon"] > found["shift"]


def test_branches_see_their_own_views() -> None:
    step = one_step(network())
    kept: list[Tensor] = []

    def far(loss, images, threat, **_):
        kept.append((images + 10.0).detach())
        return kept[0]

    acl(Acl(), with_attack(step, far))
    for branch, views in ((CLEAN, step.views), (ADVERSARIAL, kept[0])):
        alone = network().train()
        alone(views)
        assert torch.equal(
            statistics(step.model, branch, "running_mean"), alone.state_dict()["1.running_mean"]
        )
        assert int(statistics(step.model, branch, "num_batches_tracked")) == 1


@pytest.mark.parametrize("options", [{}, {"attack": "free"}])
def test_gradients_of_weights_are_left_to_the_caller(options: dict) -> None:
    step = one_step(network())
    acl(Acl(eps=0.1, **options), step)
    assert all(weight.grad is None for weight in step.model.parameters())
    assert step.views.grad is None and not step.views.requires_grad


def test_the_free_variant_has_the_gradients_of_two_losses() -> None:
    # Its clean part has been sent back once already; the gradients are those of the sum.
    step = one_step(network())
    found, _ = acl(Acl(eps=0.1, attack="free"), step)
    ours = grads(step.model, found)
    slow = one_step(network())
    with using_branch(slow.model, CLEAN):
        points = slow.views.clone().requires_grad_()
        clean, _ = slow.loss_at(points)
    (slope,) = torch.autograd.grad(clean, points, retain_graph=True)
    moved = (slow.views + 0.1 * slope.sign()).clamp(0.0, 1.0)
    wanted = 0.5 * clean + 0.5 * slow.loss_at(moved)[0]
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    for mine, theirs in zip(ours, grads(slow.model, wanted), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_fast_attack_takes_one_gradient_and_a_free_one_none() -> None:
    counts = {}
    for attack in ("pgd", "fast", "free"):
        step, calls = one_step(network()), []

        def counted(loss, images, threat, calls=calls, **options):
            return inner_ascent(
                lambda points: calls.append(1) or loss(points), images, threat, **options
            )

        acl(Acl(attack=attack), with_attack(step, counted))
        counts[attack] = len(calls)
    assert counts == {"pgd": 5, "fast": 1, "free": 0}


def test_a_network_without_batch_norm_works() -> None:
    step = one_step(network(norms=False))
    loss, parts = acl(Acl(eps=0.1), step)
    assert float(parts["adversarial"]) > float(parts["nt_xent"])
    assert all(part is not None for part in grads(step.model, loss))


def test_weights_share_the_two_parts() -> None:
    found, parts = acl(Acl(eps=0.1, weight=0.25), one_step(network()))
    wanted = 0.75 * float(parts["nt_xent"].detach()) + 0.25 * float(parts["adversarial"].detach())
    assert float(found) == pytest.approx(wanted, rel=1e-6)


def test_without_a_clean_part_there_is_no_clean_pass() -> None:
    step = one_step(network())
    found, parts = acl(Acl(eps=0.1, weight=1.0), step)
    both = acl(Acl(eps=0.1, weight=0.5), one_step(network()))[1]["adversarial"]
    assert float(found) == float(parts["adversarial"]) == float(both)
    assert int(statistics(step.model, CLEAN, "num_batches_tracked")) == 0


def test_schedule_at_both_ends() -> None:
    # The paper: 1,000 epochs in periods of 50, nu = 2/3.
    numbers = {"epochs": 1000, "period": 50}
    assert strength(0, **numbers) == strength(49, **numbers) == 1.0
    assert strength(50, **numbers) == pytest.approx(0.95)
    assert strength(999, **numbers) == pytest.approx(0.05) and strength(1000, **numbers) == 0.0
    assert adversarial_share(0, rise=2 / 3, **numbers) == 0.5
    assert adversarial_share(1000, rise=2 / 3, **numbers) == pytest.approx(5 / 6)
    for epochs in (1, 3, 20, 45):
        falls = [strength(epoch, epochs=epochs) for epoch in range(epochs + 1)]
        assert falls[0] == 1.0 and falls[-1] == 0.0 and falls == sorted(falls, reverse=True)


def test_dynacl_begins_as_acl_and_ends_heavier() -> None:
    method = Dynacl(eps=0.1)
    start, parts = dynacl(method, replace(one_step(network()), epochs=10))
    plain, _ = acl(Acl(eps=0.1), one_step(network()))
    assert float(start) == float(plain)
    last, parts = dynacl(method, replace(one_step(network()), epoch=9, epochs=10))
    share = 0.5 * (1 + 2 / 3 * 0.9)
    wanted = (1 - share) * float(parts["nt_xent"]) + share * float(parts["adversarial"])
    assert float(last) == pytest.approx(wanted, rel=1e-6)


def test_a_turn_is_the_angle_only() -> None:
    one = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    other = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert turned(one, other).tolist() == pytest.approx([0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Acl, {"eps": 0.0}, "eps 0.0"),
        (Acl, {"eps": 8.0}, "did you mean 8/255"),
        (Acl, {"norm": "l1"}, "norm=l2 or norm=linf"),
        (Acl, {"attack": "square"}, "unknown attack 'square'"),
        (Acl, {"steps": 0}, "0 steps"),
        (Acl, {"attack": "fast", "steps": 5}, "fast and free 1"),
        (Acl, {"step": -0.1}, "step -0.1"),
        (Acl, {"goal": "cosface"}, "unknown loss"),
        (Acl, {"attack": "free", "goal": "shift"}, "attack=free"),
        (Acl, {"weight": 0.0}, "weight 0.0"),
        (Dynacl, {"period": 0}, "period 0"),
        (Dynacl, {"rise": 1.5}, "rise 1.5"),
        (Dynacl, {"weight": 0.3}, "give rise"),
    ],
)
def test_refuses(kind: type, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**options)
