"""Attacks of the package torchattacks: parameters, budgets, what is left behind."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from robustcl import attacks
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective, misclassify
from robustcl.core.threat import Threat
from tests.affine import affine_classifier, exact_distance
from tests.network import small_classifier, some_images

REASON = "torchattacks is not installed; pip install 'robustcl[torchattacks]' runs these tests"
package = pytest.importorskip("torchattacks", reason=REASON)


def setting(count: int = 6) -> tuple[Objective, torch.Tensor]:
    model, images = small_classifier(), some_images(count)
    return misclassify(model, model(images).argmax(1)), images


def test_a_name_and_its_options_are_read() -> None:
    found = attacks.parse_attack("torchattacks:CW,steps=50,c=0.5")
    assert found.name == "torchattacks"
    assert found.options == {"name": "CW", "steps": 50, "c": 0.5}
    assert found.text == "torchattacks:CW,steps=50,c=0.5"


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("torchattacks", "torchattacks:CW"),
        ("torchattacks:steps=5", "torchattacks:CW"),
        ("torchattacks:Nothing", "PGDL2"),
        ("torchattacks:MultiAttack", "PGDL2"),
        ("torchattacks:PGD,eps=0.1", "no option 'eps'"),
        ("torchattacks:CW,stops=5", "steps"),
        ("torchattacks:CW,steps=5.5", "whole"),
        ("torchattacks:CW,steps=many", "number"),
    ],
)
def test_what_the_package_does_not_have_is_refused(text: str, cure: str) -> None:
    with pytest.raises(InputError, match=cure):
        attacks.parse_attack(text)


def test_without_the_package_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchattacks", None)
    with pytest.raises(InputError, match=r"pip install 'robustcl\[torchattacks\]'"):
        attacks.parse_attack("torchattacks:CW")


@pytest.mark.parametrize("name", ["CW", "DeepFool", "FAB", "PGDL2", "JSMA", "OnePixel"])
def test_points_are_verified_and_gradients_counted(name: str) -> None:
    objective, images = setting()
    result = attacks.run_attack("torchattacks", objective, images, Threat("l2", 0.8), name=name)
    assert bool((result.radius[result.success] <= 0.8 * (1 + 1e-6)).all())
    assert bool((objective.margin(result.adversarials)[result.success] > 0).all())
    assert bool((result.gradients > 0).all()) == (name != "OnePixel")
    assert result.forwards is not None
    assert bool((result.forwards > 0).all())


def test_parameters_are_those_the_attack_really_has() -> None:
    objective, images = setting()
    result = attacks.run_attack("torchattacks", objective, images, Threat("linf", 0.2), name="PGD")
    assert result.parameters["steps"] == 10
    assert result.parameters["eps"] == 0.2
    assert result.parameters["alpha"] == pytest.approx(0.05)  # the package's 2/255 of 8/255
    assert "PGD(eps=0.2, alpha=0.05, steps=10" in result.note
    assert result.gradients.tolist() == [10] * 6
    with pytest.raises(InputError, match="cross"):
        attacks.run_attack(
            "torchattacks", objective, images, Threat("linf", 0.2), name="PGD", steps=2
        )


def test_its_autoattack_is_labeled_as_what_it_is() -> None:
    objective, images = setting()
    threat = Threat("linf", 0.3)
    result = attacks.run_attack("torchattacks", objective, images, threat, name="AutoAttack")
    assert "10 steps instead of 100" in result.note
    assert bool(result.success.all())


def test_deepfool_reaches_the_exact_distance_of_a_linear_model() -> None:
    model = affine_classifier(dtype=torch.float32)
    images = 0.3 + 0.4 * torch.rand(6, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    exact = exact_distance(model, images, "l2")
    objective = misclassify(model, model(images).argmax(1))
    result = attacks.run_attack(
        "torchattacks", objective, images, Threat("l2", 2.0), name="DeepFool"
    )
    inside = result.success & (exact < 0.2)
    assert int(inside.sum()) >= 2
    assert bool((result.radius[inside] >= exact[inside] * (1 - 1e-6)).all())
    assert bool((result.radius[inside] <= exact[inside] * 1.03).all())


def test_cw_is_not_misled_by_negative_scores() -> None:
    class Shifted(nn.Module):
        def __init__(self, inner: Classifier) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.inner(images) - 5.0

    model, images = small_classifier(), some_images(6)
    other = Classifier.from_scores(Shifted(model), image_shape=images.shape[1:])
    threat, targets = Threat("l2", 0.8), model(images).argmax(1)
    found = [
        attacks.run_attack(
            "torchattacks", misclassify(one, targets), images, threat, name="CW", lr=0.05
        )
        for one in (model, other)
    ]
    assert int(found[0].success.sum()) > 2
    assert found[0].success.tolist() == found[1].success.tolist()


def test_nothing_is_left_behind() -> None:
    objective, images = setting()
    model = objective.classifier
    assert model is not None
    model.train()
    model(images).sum().backward()
    before = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    def seeded() -> tuple[float, float, float]:
        return float(torch.rand(1)), float(np.random.rand()), random.random()  # noqa: NPY002

    def restart() -> None:
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)

    restart()
    expected = seeded()
    restart()
    threat = Threat("linf", 0.3)
    for name in ("PGD", "Pixle", "CW", "JSMA"):
        attacks.torchattacks(objective, images, threat, name=name, seeds=[4])
    assert seeded() == expected
    after = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(part.training for part in model.modules())
    assert all(weight.requires_grad for weight in model.parameters())
    with pytest.raises(RuntimeError, match="planned"):
        attacks.torchattacks(broken(objective), images, threat, name="PGD")
    assert all(part.training for part in model.modules())


def broken(objective: Objective) -> Objective:
    model = objective.classifier
    assert model is not None

    def fail(*_: object) -> None:
        raise RuntimeError("planned")

    model.head.register_forward_hook(fail)
    return objective


def test_one_seed_gives_one_result_and_nothing_on_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    objective, images = setting()
    threat = Threat("linf", 0.05)
    for name in ("PGD", "Pixle"):  # one draws from torch, the other from NumPy
        first, again, other = (
            attacks.torchattacks(objective, images, threat, name=name, seeds=[seed]).candidates
            for seed in (5, 5, 6)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    attacks.torchattacks(objective, images, threat, name="JSMA")  # says on stdout what it aims at
    assert capsys.readouterr().out == ""


def test_losses_that_need_more_classes_or_channels_are_refused() -> None:
    model, images = small_classifier(classes=3), some_images(2)
    objective = misclassify(model, model(images).argmax(1))
    for name in ("APGDT", "AutoAttack"):
        with pytest.raises(InputError, match="4 or more classes"):
            attacks.run_attack("torchattacks", objective, images, Threat("linf", 0.1), name=name)
    with pytest.raises(InputError, match="3 channels"):
        attacks.run_attack("torchattacks", objective, images, Threat("linf", 0.1), name="TIFGSM")
    budgets = torch.tensor([0.1, 0.2])
    with pytest.raises(InputError, match="one eps"):
        attacks.run_attack("torchattacks", objective, images, Threat("linf", budgets), name="PGD")
    result = attacks.run_attack("torchattacks", objective, images, Threat("l2", budgets), name="CW")
    assert bool((result.radius[result.success] <= budgets[result.success] * (1 + 1e-6)).all())


def test_parameters_and_passes_of_all_budgets_are_kept() -> None:
    objective, images = setting()
    found = attacks.attacked_radius(
        "torchattacks", objective, images, norm="l2", eps_grid=[0.05, 0.5, 5.0], batch_size=6,
        name="PGDL2",
    )  # fmt: skip
    assert found.parameters["steps"] == 10
    assert found.forwards is not None and bool((found.forwards > 10).all())


@pytest.mark.parametrize("name", ["EADL1", "EADEN"])
def test_attacks_in_l1_are_as_good_as_they_say(name: str) -> None:
    objective, images = setting()
    near = attacks.attacked_radius("fmn", objective, images, norm="l1", eps_grid=[9.0]).radius
    eps = 2.0 * float(near.max())
    result = attacks.run_attack("torchattacks", objective, images, Threat("l1", eps), name=name)
    assert bool(result.success.any())
    assert bool((result.radius[result.success] <= eps * (1 + 1e-6)).all())
    assert bool((result.radius >= 0.99 * near).all())
    assert "projected" not in result.note


def test_attacks_without_l1_are_refused_there() -> None:
    objective, images = setting(2)
    for name in ("APGD", "FAB", "Square"):
        with pytest.raises(InputError, match="has no l1; use torchattacks:EADL1"):
            attacks.run_attack("torchattacks", objective, images, Threat("l1", 1.0), name=name)
