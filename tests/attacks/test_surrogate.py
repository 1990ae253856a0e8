"""Losses by hand, and what they do not depend on."""

import pytest
import torch

from robustcl.attacks.surrogate import CLASSES, surrogate
from robustcl.core.classifier import Classifier
from robustcl.core.objectives import Objective, misclassify

SCORES = torch.tensor([[3.0, 1.0, 2.5, -1.0, 0.5], [0.0, 4.0, 1.0, 2.0, 3.5]])
TARGETS = torch.tensor([0, 2])
RIVALS = torch.tensor([1, 4])


class _Same(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def objective() -> Objective:
    model = Classifier.from_scores(_Same(), image_shape=(1, 1, 5))
    return misclassify(model, TARGETS)


def value(loss: str, *, factor: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    images = (factor * SCORES + shift).view(2, 1, 1, 5)
    others = RIVALS if loss.endswith("-targeted") else None
    return surrogate(objective(), loss, others)(images)


def test_values_are_those_of_the_formulas() -> None:
    torch.testing.assert_close(value("margin"), torch.tensor([-0.5, 3.0]))
    torch.testing.assert_close(value("margin-targeted"), torch.tensor([-2.0, 2.5]))
    torch.testing.assert_close(value("dlr"), torch.tensor([-0.5 / 2.0, 3.0 / 2.0]))
    torch.testing.assert_close(
        value("dlr-targeted"), torch.tensor([-2.0 / (3.0 - 0.75), 2.5 / (4.0 - 1.5)])
    )
    wanted = -torch.log_softmax(SCORES, dim=1)[[0, 1], TARGETS]
    torch.testing.assert_close(value("ce"), wanted)


@pytest.mark.parametrize("loss", CLASSES)
def test_a_shift_of_all_scores_changes_no_loss_and_a_factor_no_dlr(loss: str) -> None:
    torch.testing.assert_close(value(loss, shift=2.0), value(loss))
    same = torch.allclose(value(loss, factor=50.0), value(loss))
    assert same == loss.startswith("dlr")
