"""Probabilities are told from scores that merely come near."""

import pytest
import torch

from robustcl.attacks.checks.answers import softmax_scores
from robustcl.attacks.checks.subject import Subject
from robustcl.core.threat import Threat
from tests.network import small_classifier, some_images

SHARES = torch.tensor([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]])


def flagged(scores: torch.Tensor) -> bool:
    subject = Subject(small_classifier(), some_images(2), scores, Threat("l2", 0.5), (0, 1))
    return softmax_scores(subject) is not None


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_sums_of_one_up_to_rounding_are_flagged_and_others_are_not(sign: float) -> None:
    assert flagged(SHARES)
    for excess, wanted in ((5e-5, True), (5e-4, False), (5e-3, False)):
        off = SHARES.clone()
        off[0, 0] += sign * excess
        assert flagged(off) == wanted


def test_one_image_whose_scores_are_none_is_enough() -> None:
    assert not flagged(torch.cat([SHARES[:1], 2.0 * SHARES[1:]]))
    # A sum of 1 with a negative entry, which no softmax has.
    assert not flagged(torch.tensor([[0.7, 0.2, 0.1], [-0.1, 1.0, 0.1]]))
    assert not flagged(torch.tensor([[0.7, 0.2, 0.1], [-1e-6, 1.0, 1e-6]]))
    assert not flagged(torch.full((2, 3), torch.nan))
