"""Temperature and calibration error where the answer is known."""

import pytest
import torch

from robustcl.calibration import calibration_error, fit_temperature
from robustcl.errors import InputError


def drawn(temperature: float, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    # Labels that truly follow softmax(scores / T).
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(count, 5, generator=generator, dtype=torch.float64) * 2 - 1
    shares = torch.softmax(scores / temperature, dim=1)
    return scores, torch.multinomial(shares, 1, generator=generator)[:, 0]


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
def test_finds_the_temperature_that_made_the_labels(temperature: float) -> None:
    scores, labels = drawn(temperature)
    found = fit_temperature(scores, labels)
    assert found == pytest.approx(temperature, rel=0.06)
    cost = torch.nn.functional.cross_entropy
    best = cost(scores / found, labels)
    assert all(best <= cost(scores / (found * factor), labels) for factor in (0.9, 0.99, 1.01, 1.1))


def test_error_is_small_when_calibrated_and_known_when_not() -> None:
    scores, labels = drawn(0.3)
    assert calibration_error(torch.softmax(scores / 0.3, dim=1), labels) < 0.02
    assert calibration_error(torch.softmax(scores / 0.03, dim=1), labels) > 0.1
    sure = torch.tensor([[1.0, 0.0]]).repeat(10, 1)
    wrong = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1])
    assert calibration_error(sure, wrong, bins=1) == pytest.approx(0.3)


def test_refuses() -> None:
    with pytest.raises(InputError):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    with pytest.raises(InputError):
        calibration_error(torch.ones(2, 1), torch.zeros(2, dtype=torch.long), bins=0)
