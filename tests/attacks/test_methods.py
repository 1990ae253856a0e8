"""Every attack of the table, on the same problems with known answers."""

import pytest
import torch
from torch import Tensor, nn

from robustcl import attacks
from robustcl.core.choices import NORMS, Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.objectives import misclassify
from robustcl.core.threat import Threat, perturbation_norm
from tests.affine import SHAPE, affine_classifier, exact_distance
from tests.attacks.known_answers import problems
from tests.network import small_classifier, some_images

PAIRS = [(name, norm) for name, entry in attacks.ATTACKS.items() for norm in entry.norms]
OURS = [(name, norm) for name, norm in PAIRS if attacks.ATTACKS[name].pads]
BLIND = {"noise", "embedding_shift"}  # they do not look at what is to be left


@pytest.mark.parametrize("attack, norm", OURS)
def test_nobody_wins_below_the_optimum_and_who_looks_wins_far_above(
    attack: str, norm: Norm
) -> None:
    for problem in problems():
        best = problem.optimum(norm)
        for eps, wanted in ((0.99 * float(best.min()), False), (1.5 * float(best.max()), True)):
            threat = Threat(norm, eps, problem.box)
            objective, images = problem.objective, problem.images
            result = attacks.run_attack(attack, objective, images, threat, batch_size=7)
            norms = perturbation_norm(result.adversarials - images, norm)
            assert bool((norms <= eps * (1 + 1e-6)).all())
            found = result.success
            assert bool((objective.margin(result.adversarials)[found] > 0).all())
            assert bool((result.radius[found] >= best[found] * (1 - 1e-6)).all())
            assert torch.equal(result.adversarials[~found], images[~found])
            if not wanted or attack not in BLIND:
                assert bool((found == wanted).all()), (problem.name, eps)


@pytest.mark.parametrize("attack, norm", OURS)
def test_a_network_gives_the_same_alone_and_in_a_batch(attack: str, norm: Norm) -> None:
    model, images = small_classifier(), some_images(6)
    objective = misclassify(model, model(images).argmax(1))
    threat = Threat(norm, torch.linspace(0.1, 1.0, 6) * (1.0 if norm == "l2" else 0.2))
    whole = attacks.run_attack(attack, objective, images, threat, batch_size=4)
    for row in (0, 5):
        only = torch.tensor([row])
        alone = attacks.run_attack(
            attack, objective.select(only), images[only], threat.select(only), seeds=[row],
            batch_size=4,
        )  # fmt: skip
        # The last bits of a model's output may depend on the place in the batch.
        assert bool(alone.success[0]) == bool(whole.success[row])
        torch.testing.assert_close(alone.radius[0], whole.radius[row], rtol=2e-3, atol=0)


class _Gradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images: Tensor, rows: list[int]) -> Tensor:
        ctx.rows = rows
        return images.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.rows[0] += len(gradient)
        return gradient, None


class _Counted(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.rows = inner, [0]

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(_Gradients.apply(images, self.rows))


@pytest.mark.parametrize("attack, norm", OURS)
def test_every_backward_pass_is_counted(attack: str, norm: Norm) -> None:
    counted = _Counted(affine_classifier())
    model = Classifier.from_scores(counted, image_shape=SHAPE).double()
    problem = problems()[1]
    with torch.no_grad():
        left = model(problem.images).argmax(1)
    counted.rows[0] = 0
    budgets = problem.optimum(norm)
    result = attacks.run_attack(
        attack, misclassify(model, left), problem.images, Threat(norm, 2.0 * budgets), batch_size=7
    )
    said, rows = int(result.gradients.sum()), counted.rows[0]
    # Those who stop early stay in the batch, whose shape is fixed, while others go on.
    if attack in ("pgd", "fmn", "ddn", "embedding_shift", "noise"):
        assert said == rows
    else:
        assert 0 < said <= rows
        assert rows <= 7 * int(result.gradients.max()) or attack == "boundary_walk"


@pytest.mark.parametrize("norm", NORMS)
def test_the_reference_too_wins_above_the_optimum_and_not_below(norm: Norm) -> None:
    # It takes float32, the box and one budget only, and its Square attack in L2 needs 5 pixels.
    model = affine_classifier(seed=3, dtype=torch.float32)
    images = 0.3 + 0.4 * problems()[0].images[:3].float()
    with torch.no_grad():
        left = model(images).argmax(1)
    best = exact_distance(model, images, norm)
    assert float(best.max()) < {"l2": 0.6, "linf": 0.25, "l1": 0.3}[norm]
    below, above = 0.98 * float(best.min()), 1.2 * float(best.max())
    for eps, wanted in ((below, False), (above, True))[norm == "l2" :]:
        result = attacks.run_attack(
            "autoattack", misclassify(model, left), images, Threat(norm, eps)
        )
        assert bool((result.success == wanted).all())


@pytest.mark.parametrize("attack, norm", OURS)
def test_the_model_is_left_as_it_was(attack: str, norm: Norm) -> None:
    model, images = small_classifier(), some_images(3)
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        left = model(images).argmax(1)
    attacks.run_attack(attack, misclassify(model, left), images, Threat(norm, 0.3), batch_size=3)
    assert all(part.training for part in model.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_arguments_that_run_supplies_are_no_options() -> None:
    assert attacks.parse_attack("apgd:loss=dlr-targeted,steps=50").options["steps"] == 50
    for text in ("apgd:batch_size=3", "boundary-walk:starts=3", "noise:seeds=3"):
        with pytest.raises(InputError, match="has no option"):
            attacks.parse_attack(text)


def test_a_function_of_the_table_is_run_as_its_name_is() -> None:
    model, images = small_classifier(), some_images(5)
    objective = misclassify(model, model(images).argmax(1))
    by_name = attacks.run_attack("apgd", objective, images, Threat("l2", 0.4), batch_size=3)
    by_function = attacks.run_attack(
        attacks.apgd, objective, images, Threat("l2", 0.4), batch_size=3
    )
    assert torch.equal(by_name.adversarials, by_function.adversarials)
    assert by_name.attack == by_function.attack == "apgd"
    assert set(NORMS) == {"l2", "linf", "l1"}
