"""DeACL: a student that is the teacher has the lowest loss, and the attack leads away."""

import copy
from dataclasses import replace

import pytest
import torch

from robustcl.attacks import inner_ascent
from robustcl.core.errors import InputError
from robustcl.training.robust._deacl import Deacl, deacl, student_loss
from tests.training.robust.one_step import grads, network, one_step, with_attack


def test_the_teacher_itself_has_the_lowest_loss() -> None:
    model = network().eval()
    teacher = copy.deepcopy(model)
    step = with_attack(one_step(model, split=False), lambda loss, images, threat, **_: images)
    model.eval()
    found, parts = deacl(Deacl(), replace(step, teacher=teacher))
    assert float(found) == pytest.approx(-3.0, abs=1e-5)
    assert float(parts["distance"]) == pytest.approx(0.0, abs=1e-5)
    other, _ = deacl(Deacl(), replace(step, teacher=network(seed=1).eval()))
    assert float(other) > -2.9


def test_the_student_loss_is_that_of_the_paper() -> None:
    clean, moved, teacher = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))

    def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
        rows = zip(one, other, strict=True)
        return sum(float(a @ b / (a.norm() * b.norm())) for a, b in rows) / len(one)

    wanted = -cosine(clean, teacher) - 2.0 * cosine(moved, clean)
    assert float(student_loss(clean, moved, teacher)) == pytest.approx(wanted, rel=1e-5)
    assert float(student_loss(clean, clean, clean)) == pytest.approx(-3.0)
    assert float(student_loss(clean, -clean, -clean)) == pytest.approx(3.0)


@pytest.mark.parametrize("goal", ["loss", "shift"])
def test_the_attack_turns_the_embedding_away(goal: str) -> None:
    teacher = network(seed=1).eval()
    step, kept = replace(one_step(network(), split=False), teacher=teacher), []

    def spy(raised, images, threat, **options):
        assert options["steps"] == 5 and torch.equal(images, step.views[:12])
        points = inner_ascent(raised, images, threat, **options)
        kept.append([float(raised(at).mean().detach()) for at in (images, points)])
        return points

    loss, parts = deacl(Deacl(eps=0.1, goal=goal), with_attack(step, spy))
    assert kept[0][1] > kept[0][0] and float(parts["adversarial"]) > 0.0
    assert all(part is not None for part in grads(step.model, loss))
    assert all(weight.grad is None for weight in (*teacher.parameters(), *step.model.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attack": "free"}, "attack=fast"),
        ({"goal": "supcon"}, "sees no labels"),
        ({"weight": 0.0}, "weight 0.0"),
    ],
)
def test_refuses(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Deacl(**options)
