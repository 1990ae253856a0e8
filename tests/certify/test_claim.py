"""The radius of an image is that of its nearest other class, whoever it is."""

import math

import torch

from robustcl.certify.claim import NO_RIVAL, nearest_other_class


def test_the_nearest_of_all_rivals_counts_and_the_own_class_never() -> None:
    radii = torch.tensor([[0.1, 3.0, 2.0], [3.0, 0.1, 2.0], [2.0, 3.0, 0.0]])
    radius, rival = nearest_other_class(radii, torch.tensor([0, 1, 2]))
    assert radius.tolist() == [2.0, 2.0, 2.0]
    assert rival.tolist() == [2, 2, 0]


def test_what_is_unknown_or_negative_is_claimed_nothing() -> None:
    nan, inf = math.nan, math.inf
    radii = torch.tensor([[inf, nan, 2.0], [inf, -1.0, 2.0], [inf, -inf, 2.0], [nan, 1.0, 2.0]])
    radius, rival = nearest_other_class(radii, torch.zeros(4, dtype=torch.int64))
    assert radius.tolist() == [0.0, 0.0, 0.0, 1.0]
    assert rival.tolist() == [1, 1, 1, 1]
    assert radius.dtype == torch.float64


def test_without_a_rival_that_can_overtake_the_radius_is_infinite() -> None:
    radius, rival = nearest_other_class(torch.tensor([[0.5, math.inf]]), torch.tensor([0]))
    assert radius.tolist() == [math.inf] and rival.tolist() == [NO_RIVAL]
