"""Labels are matched by name, or refused, never shifted."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from robustcl.core.choices import Matching
from robustcl.core.errors import InputError
from robustcl.data import Dataset, match_classes
from robustcl.data.class_names import (
    absent_classes,
    check_classes,
    match_labels,
    same_classes,
    some_names,
)

CLASSES = ("airplane", "bird", "cat", "deer")


def data(labels: Sequence[int], names: Sequence[str] = ()) -> Dataset:
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2)
    return Dataset("some/test", images, np.asarray(labels), tuple(names))


def test_every_order_of_every_subset_keeps_the_name_of_each_image() -> None:
    for size in range(1, 5):
        for names in itertools.permutations(CLASSES, size):
            given = data([k % size for k in range(8)], names)
            found = match_classes(given, CLASSES)
            assert found.class_names == CLASSES and len(found) == 8
            assert [CLASSES[k] for k in found.labels] == [names[k] for k in given.labels]
            check_classes(found, CLASSES)


def test_an_unknown_class_is_refused_or_left_out_and_counted() -> None:
    given = data([0, 1, 2, 1, 0, 2], ["cat", "frog", "bird"])
    with pytest.raises(InputError, match=r"lacks: 'frog'.*--classes known"):
        match_classes(given, CLASSES)
    known = match_classes(given, CLASSES, matching="known")
    assert [CLASSES[k] for k in known.labels] == ["cat", "bird", "cat", "bird"]
    assert known.rows is not None and known.rows.tolist() == [0, 2, 4, 5]
    assert np.array_equal(known.images, np.asarray(given.images)[[0, 2, 4, 5]])
    assert known.notes[-1].startswith("2 of 6 images are left out, of a class")
    with pytest.raises(InputError, match="no image of a class of the classifier"):
        match_classes(data([0, 0], ["frog"]), CLASSES, matching="known")


@pytest.mark.parametrize("wrong", ["Cat", " cat", "cats"])
def test_a_spelling_is_no_match_but_hinted_at(wrong: str) -> None:
    with pytest.raises(InputError, match="perhaps 'cat' is meant"):
        match_classes(data([0], [wrong]), CLASSES)


def test_accents_are_one_letter_in_either_spelling() -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    found = match_classes(data([0, 1], [apart, "bird"]), ("bird", composed))
    assert found.labels.tolist() == [1, 0]


def test_without_names_the_number_of_classes_has_to_agree() -> None:
    with pytest.raises(InputError, match=r"no class names and labels to 2.*--classes positions"):
        match_classes(data([0, 1, 2]), CLASSES)
    found = match_classes(data([3, 1, 2, 0]), CLASSES)
    assert found.labels.tolist() == [3, 1, 2, 0] and "taken as positions" in found.notes[0]
    stated = match_classes(data([0, 1, 2]), CLASSES, matching="positions")
    assert stated.labels.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="label 4 but the classifier has 4"):
        match_classes(data([4, 0]), CLASSES, matching="positions")


def test_numbers_are_names_where_the_other_side_uses_them() -> None:
    digits = tuple("0123456789")
    folders = ("1", "10", "2")  # in the order of a file system
    with pytest.raises(InputError, match="lacks: '10'"):
        match_classes(data([0, 1, 2], folders), digits)
    found = match_classes(data([0, 1, 2], ("1", "2", "9")), digits)
    assert found.labels.tolist() == [1, 2, 9]
    twelve = tuple(str(k) for k in range(12))
    found = match_classes(data([0, 1, 2], folders), twelve)
    assert found.labels.tolist() == [1, 10, 2]


def test_a_label_without_a_name_is_the_class_of_that_number() -> None:
    folders = tuple(sorted(str(k) for k in range(12)))  # '0', '1', '10', '11', '2', ...
    found = match_classes(data([0, 2, 11]), folders)
    assert [folders[k] for k in found.labels] == ["0", "2", "11"] and not found.notes
    stated = match_classes(data([0, 2, 11]), folders, matching="positions")
    assert stated.labels.tolist() == [0, 2, 11]
    with pytest.raises(InputError, match="labels to 12, the classifier has 12"):
        match_classes(data([0, 12]), folders)


def test_a_split_without_images_is_called_empty() -> None:
    for names in (CLASSES, ()):
        with pytest.raises(InputError, match=r"'one' holds no image.*split=all"):
            match_labels(np.zeros(0, dtype=np.int64), names, CLASSES, what="one")


def test_numbers_on_one_side_only_are_no_names() -> None:
    found = match_classes(data([0, 1, 2, 3], CLASSES), ("0", "1", "2", "3"))
    assert found.labels.tolist() == [0, 1, 2, 3] and "'airplane' is '0'" in found.notes[0]
    with pytest.raises(InputError, match="has 3 classes, the classifier has 4"):
        match_classes(data([0, 1, 2], CLASSES[:3]), ("0", "1", "2", "3"))
    with pytest.raises(InputError, match="has 3 classes, the classifier has 4"):
        match_classes(data([0, 1, 2], ("0", "1", "2")), CLASSES)


def test_positions_are_taken_only_when_told() -> None:
    given = data([0, 1], ["bird", "cat"])
    found = match_classes(given, CLASSES, matching="positions")
    assert found.labels.tolist() == [0, 1] and found.class_names == ()
    assert "'bird' is 'airplane'" in found.notes[0]
    check_classes(found, CLASSES)


def test_a_name_that_stands_twice_is_refused_on_either_side() -> None:
    with pytest.raises(InputError, match="two classes called 'cat'"):
        match_classes(data([0, 1], ["cat", "cat"]), CLASSES)
    with pytest.raises(InputError, match="classifier has two classes called 'bird'"):
        match_classes(data([0], ["cat"]), ("bird", "bird", "cat"))


def test_library_calls_refuse_what_is_not_matched() -> None:
    with pytest.raises(InputError, match=r"label 0 .* is 'bird', but .* is 'airplane'"):
        check_classes(data([0, 1], ["bird", "cat"]), CLASSES)
    with pytest.raises(InputError, match="'Vogel'"):
        check_classes(data([0], ["Vogel"]), CLASSES)
    with pytest.raises(InputError, match="label 7"):
        check_classes(data([7]), CLASSES)
    check_classes(data([0, 3]), CLASSES)
    check_classes(data([0, 1], ["airplane", "bird"]), CLASSES)


def test_data_without_labels_has_no_class_to_match() -> None:
    given = Dataset("some", np.zeros((3, 2, 2, 1), np.uint8), np.zeros(3, np.int64), labeled=False)
    assert given.labels.tolist() == [-1, -1, -1]
    assert match_classes(given, CLASSES) is given
    check_classes(given, CLASSES)


def test_unknown_ways_of_matching_are_refused() -> None:
    wrong: Matching = "fuzzy"  # pyright: ignore[reportAssignmentType]
    with pytest.raises(InputError, match="not 'fuzzy'"):
        match_labels(np.zeros(1, np.int64), ("a",), ("a",), matching=wrong, what="x")


def test_names_in_messages() -> None:
    assert absent_classes(np.array([0, 2]), CLASSES, 4) == ("bird", "deer")
    assert absent_classes(np.array([0]), (), 2) == ("1",)
    assert some_names([str(k) for k in range(7)]).endswith("'4' and 2 more")
    assert same_classes(CLASSES, ("0", "1", "2", "3")) and not same_classes(CLASSES, ("0", "1"))
    assert not same_classes(("a", "b"), ("b", "a"))
