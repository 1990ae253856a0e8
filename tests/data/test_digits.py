"""The digits are scikit-learn's, however they are read."""

import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from sklearn.datasets import load_digits

from robustcl.data import digits as digits_function
from robustcl.data._digits import read_digits


def test_the_table_is_that_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = read_digits()
    theirs, known = load_digits(return_X_y=True)
    assert np.array_equal(pixels, theirs) and np.array_equal(labels, known)
    assert pixels.dtype == np.asarray(theirs).dtype
    before = digits_function(split="test", seed=3).hash()
    room = sys.modules["robustcl.data._digits"]  # a function of the package has the same name
    monkeypatch.setattr(
        room, "find_spec", lambda name: ModuleSpec(name, None)
    )  # laid out otherwise
    assert digits_function(split="test", seed=3).hash() == before
