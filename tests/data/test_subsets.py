"""The label subset is balanced, nested, and complete in every class or refused."""

import numpy as np
import pytest

from robustcl.core.errors import InputError
from robustcl.data import label_subset

LABELS = np.arange(1000) % 10


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_is_balanced(share: float) -> None:
    rows = label_subset(LABELS, share, num_classes=10)
    assert np.bincount(LABELS[rows]).tolist() == [round(100 * share)] * 10
    assert np.array_equal(rows, np.unique(rows))


def test_grows_and_depends_on_the_seed() -> None:
    small, large = (label_subset(LABELS, share, num_classes=10) for share in (0.02, 0.2))
    assert set(small) <= set(large)
    assert not np.array_equal(small, label_subset(LABELS, 0.02, num_classes=10, seed=1))


def test_a_small_class_gives_all_it_has() -> None:
    labels = np.array([0] * 97 + [1] * 3)
    rows = label_subset(labels, 0.2, num_classes=2)
    assert np.bincount(labels[rows]).tolist() == [10, 3]


def test_no_share_gives_none() -> None:
    assert len(label_subset(LABELS, 0.0, num_classes=10)) == 0


@pytest.mark.parametrize(
    ("share", "classes", "message"),
    [
        (0.005, 10, "less than one label"),
        (0.5, 11, "class 10 has no training image"),
        (1.5, 10, "not a share"),
    ],
)
def test_refuses(share: float, classes: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_subset(LABELS, share, num_classes=classes)
