"""The filter against loops over its definition."""

import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.training.losses import (
    FilterRule,
    false_negative_filter,
    nt_xent,
    step_thresholds,
    sup_con,
    support_scores,
    suspects,
)
from tests.training.losses.slow import (
    assert_equal_with_gradients,
    cosines,
    partner,
    points,
    slow_filter,
)

UNKNOWN = torch.full((6,), -1)


def slow_suspects(first, second, *, top_k: int, threshold: float) -> list[set[int]]:
    table, found = cosines(first, second), []
    views = len(table)
    for i in range(views):
        other = partner(i, views)
        scores = {
            k: float((table[i][k] + table[other][k]).detach()) / 2
            for k in range(views)
            if k not in (i, other)
        }
        best = sorted(scores, key=lambda k: -scores[k])[: top_k or views]
        found.append({k for k in best if scores[k] > threshold})
    return found


@pytest.mark.parametrize(("top_k", "threshold"), [(2, -1.0), (0, 0.2), (3, 0.1)])
def test_equals_the_loop(top_k: int, threshold: float) -> None:
    first, second = points(0)
    found = slow_suspects(first, second, top_k=top_k, threshold=threshold)
    nothing: list[set[int]] = [set()] * 12
    assert any(found)
    for action, dropped, attracted in (("drop", found, nothing), ("attract", nothing, found)):
        rule = FilterRule(action=action, top_k=top_k, threshold=threshold)  # pyright: ignore[reportArgumentType]
        fast = false_negative_filter(first, second, UNKNOWN, rule=rule, temperature=0.3)
        slow = slow_filter(first, second, 0.3, dropped, attracted)
        assert_equal_with_gradients(fast, slow, first, second)


def test_no_suspects_give_nt_xent() -> None:
    first, second = points(1)
    rule = FilterRule(threshold=1.0)
    assert torch.allclose(
        false_negative_filter(first, second, UNKNOWN, rule=rule), nt_xent(first, second)
    )
    # A learned threshold that is not there yet suspects nobody.
    rule, unlearned = FilterRule(class_prior=0.1), torch.full((6,), torch.nan)
    loss = false_negative_filter(first, second, UNKNOWN, unlearned, rule=rule)
    assert torch.allclose(loss, nt_xent(first, second))


def test_all_labels_and_attraction_give_sup_con() -> None:
    first, second = points(2)
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    rule = FilterRule(action="attract", threshold=1.0, confidence=0.9)
    loss = false_negative_filter(
        first, second, labels, None, torch.eye(3, 5), rule=rule, temperature=0.2
    )
    assert torch.allclose(loss, sup_con(first, second, labels, temperature=0.2))


def test_labels_decide_and_doubt_is_dropped() -> None:
    # Prototypes along the axes; images 0, 1 on class 0, 2 on class 1, 3 between the two.
    first = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 1.0]])
    rule = FilterRule(action="attract", threshold=-1.0, confidence=0.9)
    unknown = torch.full((4,), -1)
    found = suspects(first, first, unknown, None, torch.eye(2), rule=rule)
    assert found.attracted[0].tolist() == [False, True, False, False] * 2
    assert found.dropped[0].tolist() == [False, False, False, True] * 2
    known = torch.tensor([0, 1, -1, 0])
    found = suspects(first, first, known, None, torch.eye(2), rule=rule)
    assert found.attracted[0].tolist() == [False, False, False, True] * 2
    assert not bool(found.dropped[0].any())


def test_thresholds_reach_the_quantile() -> None:
    generator = torch.Generator().manual_seed(3)
    centers = torch.tensor([0.3, -0.2])
    thresholds = torch.full((2,), torch.nan)
    for _ in range(400):
        scores = centers[:, None] + 0.1 * torch.randn(2, 40, generator=generator)
        scores[:, :2] = -torch.inf
        thresholds = step_thresholds(thresholds, scores, class_prior=0.1, rate=0.5)
        centers += 0.0005  # the similarities drift while a network trains
    wanted = centers + 0.1 * 1.2816
    assert torch.allclose(thresholds, wanted, atol=0.05)


def test_scores_are_means_over_the_support() -> None:
    first, second = points(4)
    scores, table = support_scores(first, second), cosines(first, second)
    assert torch.isinf(scores[2, [2, 8]]).all() and torch.isinf(scores[8, [2, 8]]).all()
    wanted = (table[2][5] + table[8][5]) / 2
    assert torch.allclose(scores[2, 5], wanted) and torch.allclose(scores[8, 5], wanted)


def test_gradient_is_right() -> None:
    rule, labels = FilterRule(action="attract", top_k=1), torch.full((3,), -1)
    check = torch.autograd.gradcheck
    assert check(lambda a, b: false_negative_filter(a, b, labels, rule=rule), points(5, 3, 4))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"top_k": -1},
        {"threshold": 2.0},
        {"class_prior": 1.0, "top_k": 1},
        {"action": "keep", "top_k": 1},
        {"confidence": 2.0, "top_k": 1},
    ],
)
def test_refuses_rules(change: dict) -> None:
    with pytest.raises(InputError):
        FilterRule(**change)


def test_refuses_what_is_missing() -> None:
    first, second = points(6)
    with pytest.raises(InputError, match="learned thresholds"):
        false_negative_filter(first, second, UNKNOWN, rule=FilterRule(class_prior=0.1))
    rule = FilterRule(top_k=1, confidence=0.8)
    with pytest.raises(InputError, match="prototypes"):
        false_negative_filter(first, second, UNKNOWN, rule=rule)
