"""The checks at the data boundary, and batches."""

import numpy as np
import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.data import Dataset

GOOD = np.full((5, 4, 4, 3), 51, dtype=np.uint8)
LABELS = np.array([0, 1, 2, 1, 0])


def test_batches_are_in_order_and_in_range() -> None:
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) * np.ones((1, 4, 3, 1), np.uint8)
    data = Dataset("x", images, LABELS, ("a", "b", "c"))
    batches = list(data.batches(2))
    assert [len(batch.index) for batch in batches] == [2, 2, 1]
    together = torch.cat([batch.images for batch in batches])
    assert together.dtype == torch.float32 and together.shape == (5, 1, 4, 3)
    assert torch.equal(together[:, 0, 0, 0], torch.arange(5).float() / 255)
    assert torch.cat([batch.labels for batch in batches]).tolist() == LABELS.tolist()
    assert data.batch([3, 0]).index.tolist() == [3, 0] and data.num_classes == 3


def test_batches_share_no_memory() -> None:
    data = Dataset("x", np.full((2, 2, 2, 1), 0.5, dtype=np.float32), np.array([0, 1]))
    data.batch([0, 1]).images.zero_()
    data.tensor().zero_()
    assert (np.asarray(data.images) == 0.5).all()


def test_hash_sees_pixels_labels_and_names() -> None:
    data = Dataset("x", GOOD, LABELS)
    other = GOOD.copy()
    other[4, 3, 3, 2] += 1
    hashes = {
        data.hash(),
        Dataset("x", other, LABELS).hash(),
        Dataset("x", GOOD, LABELS[::-1].copy() + 1).hash(),
        Dataset("x", GOOD, LABELS, ("a", "b", "c")).hash(),
    }
    assert len(hashes) == 4 and data.hash() == Dataset("y", GOOD.copy(), LABELS).hash()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (GOOD[..., :2], LABELS, "2 channels"),
        (GOOD[:0], LABELS[:0], "empty"),
        (GOOD[0], LABELS, "expected"),
        (GOOD.astype(np.int64), LABELS, "int64"),
        (GOOD.astype(np.float32), LABELS, "outside"),
        (GOOD / -255.0, LABELS, "outside"),
        (np.full(GOOD.shape, np.nan), LABELS, "NaN"),
        (np.full(GOOD.shape, np.inf), LABELS, "NaN or infinite"),
        (GOOD, LABELS - 1, "label -1"),
        (GOOD, LABELS[:4], "labels of shape"),
        (GOOD, LABELS.astype(float), "float64"),
    ],
)
def test_refuses(images: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Dataset("x", images, labels)


def test_refuses_too_few_names_and_bad_requests() -> None:
    with pytest.raises(InputError, match="only 2 class names"):
        Dataset("x", GOOD, LABELS, ("a", "b"))
    data = Dataset("x", GOOD, LABELS)
    with pytest.raises(InputError, match="index 5"):
        data.batch([5])
    with pytest.raises(InputError, match="batch_size 0"):
        list(data.batches(0))
