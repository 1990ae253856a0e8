"""The stratified split."""

import numpy as np
import pytest

from robustcl.core.errors import InputError
from robustcl.data import stratified_split

LABELS = np.repeat([0, 1, 5], [50, 10, 1])


def test_every_row_once_with_every_class_in_its_share() -> None:
    train, test = stratified_split(LABELS, test_share=0.2, seed=3)
    assert sorted([*train, *test]) == list(range(61))
    assert np.bincount(LABELS[test]).tolist() == [10, 2]
    assert 60 in train


def test_seed_decides() -> None:
    first, again, other = (stratified_split(LABELS, seed=seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize(("share", "seed"), [(0.0, 0), (1.0, 0), (0.2, -1)])
def test_refuses(share: float, seed: int) -> None:
    with pytest.raises(InputError):
        stratified_split(LABELS, test_share=share, seed=seed)
