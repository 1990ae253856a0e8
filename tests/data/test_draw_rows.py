"""The draw of a limit: fair, nested, and the same everywhere."""

import numpy as np
import pytest

from robustcl.core.errors import InputError
from robustcl.data import load_data
from robustcl.data.splits import draw_order


@pytest.mark.parametrize("seed", range(5))
def test_every_beginning_is_stratified(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.sort(generator.choice(7, size=900, p=np.arange(1, 8) / 28))
    order = draw_order(labels, seed=seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    sizes = np.bincount(labels)
    for count in range(1, len(labels)):
        drawn = np.bincount(labels[order[:count]], minlength=7)
        # A class's share of the first `count` rows is at most one image off on either side, plus
        # what the offsets of the other classes shift the common border by.
        assert np.all(np.abs(drawn - count * sizes / len(labels)) <= 2.0)


def test_a_balanced_set_gives_every_class_its_turn() -> None:
    order = draw_order(np.repeat(np.arange(10), 50), seed=3)
    turns = np.repeat(np.arange(10), 50)[order].reshape(50, 10)
    assert all(len(set(turn)) == 10 for turn in turns)


def test_seeds_draw_others_and_classes_are_drawn_apart() -> None:
    labels = np.repeat([0, 1], 200)
    first, second = draw_order(labels, seed=0), draw_order(labels, seed=1)
    assert set(first[:100]) != set(second[:100])
    assert np.array_equal(first, draw_order(labels, seed=0))
    more = np.concatenate([labels, np.full(50, 2)])
    of_zero = [row for row in draw_order(more, seed=0) if labels[row % 400] == 0 and row < 400]
    assert of_zero == [row for row in first if labels[row] == 0]


def test_no_class_always_comes_first() -> None:
    labels = np.repeat(np.arange(4), 10)
    firsts = [int(labels[draw_order(labels, seed=seed)[0]]) for seed in range(200)]
    assert min(np.bincount(firsts, minlength=4)) > 20  # of 50 each; five deviations are 31


def test_rows_are_drawn_evenly() -> None:
    hits = np.zeros(60)
    for seed in range(2000):
        hits[draw_order(np.repeat([0, 1, 2], 20), seed=seed)[:12]] += 1
    # Binomial with 2,000 draws at 1/5: five standard deviations are 90.
    assert np.all(np.abs(hits - 400) < 90)


def test_one_image_per_class_and_images_without_labels() -> None:
    assert sorted(draw_order(np.arange(5))) == list(range(5))
    assert sorted(draw_order(np.full(9, -1), seed=4)) == list(range(9))
    with pytest.raises(InputError, match="seed -1 is negative"):
        draw_order(np.arange(3), seed=-1)


@pytest.mark.parametrize("spec", ["npz", "parquet", "imagefolder"])
def test_limits_are_nested_in_every_source(spec: str, sorted_sources: dict[str, str]) -> None:
    whole = load_data(sorted_sources[spec])
    pixels, before = np.asarray(whole.images), np.zeros(0, dtype=np.int64)
    for limit in (1, 2, 5, 9, 20, 39):
        drawn = load_data(sorted_sources[spec], limit=limit)
        assert drawn.rows is not None
        assert np.array_equal(drawn.rows[: len(before)], before)
        assert np.array_equal(np.asarray(drawn.images), pixels[drawn.rows])
        counts = np.bincount(drawn.labels, minlength=4)
        assert counts.max() - counts.min() <= 1  # a file sorted by class is not judged on one
        before = drawn.rows
    assert load_data(sorted_sources[spec], limit=40).rows is None
