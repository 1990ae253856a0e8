"""Sums of losses, and the text that names them."""

import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.training.losses import (
    LossBatch,
    Term,
    debiased,
    hard_negative,
    nt_xent,
    parse_losses,
    semantic,
    suncet,
    sup_con,
    weighted_sum,
)
from tests.training.losses.slow import points

LABELS = torch.tensor([0, 1, -1, 0, 1, -1])


def test_equals_adding_by_hand() -> None:
    first, second = points(0)
    batch = LossBatch(first, second, LABELS, targets=torch.eye(2, 5).double())
    text = (
        "simclr:temperature=.4,weight=.2+supcon+suncet:weight=.5+debiased:class_prior=1/5"
        "+hard_negative:beta=2+semantic:form=cosine,weight=3"
    )
    total, parts = weighted_sum(parse_losses(text), batch)
    assert batch.targets is not None
    wanted = (
        0.2 * nt_xent(first, second, temperature=0.4)
        + sup_con(first, second, LABELS)
        + 0.5 * suncet(first, second, LABELS)
        + debiased(first, second, class_prior=0.2)
        + hard_negative(first, second, beta=2)
        + 3.0 * semantic(first, second, LABELS, batch.targets, form="cosine")
    )
    assert torch.allclose(total, wanted) and len(parts) == 6


def test_labeled_images_may_have_a_batch_of_their_own() -> None:
    first, second = points(1)
    own = LossBatch(*points(2), LABELS)
    total, _ = weighted_sum(
        parse_losses("simclr+suncet"), LossBatch(first, second, LABELS), labeled=own
    )
    wanted = nt_xent(first, second) + suncet(own.first, own.second, LABELS)
    assert torch.allclose(total, wanted)


def test_times() -> None:
    batch = LossBatch(*points(3), LABELS)
    terms = parse_losses("simclr:until=2+supcon:after=2")
    names = [list(weighted_sum(terms, batch, epoch=epoch)[1]) for epoch in range(4)]
    assert names == [["nt_xent"], ["nt_xent"], ["sup_con"], ["sup_con"]]
    with pytest.raises(InputError, match="no loss counts in epoch 3"):
        weighted_sum(parse_losses("simclr:until=2"), batch, epoch=2)


def test_autocast_does_not_touch_the_numbers() -> None:
    # training.md, traps: logits, normalization and softmax in float32 whatever the autocast type.
    first, second = (view.detach().float() for view in points(4))
    batch = LossBatch(first, second, LABELS, targets=torch.eye(2, 5))
    terms = parse_losses("simclr+supcon+suncet+debiased+hard_negative+semantic+filter:top_k=2")
    plain, _ = weighted_sum(terms, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same, _ = weighted_sum(terms, batch)
    assert torch.equal(plain, same)
    half = LossBatch(1e-6 * first.half(), 1e-6 * second.half(), LABELS, targets=torch.eye(2, 5))
    value, _ = weighted_sum(terms, half)  # a norm of 1e-6 is below what fp16 can square
    assert torch.isfinite(value) and value.dtype == torch.float32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("simclear", "unknown loss"),
        ("simclr:tau=1", "no option 'tau'"),
        ("simclr:temperature=0", "not positive"),
        ("filter:beta=1", "no option 'beta'"),
        ("simclr:weight=-1", "weight"),
        ("simclr:until=0", "until"),
        ("simclr:until=1.5", "until"),
        ("simclr+", "names no method"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_losses(text)


def test_a_term_is_a_value() -> None:
    assert Term("supcon", 0.5) == Term("sup_con", weight=0.5)
    assert Term("supcon").temperature == 0.1 and Term("simclr").temperature == 0.5
