"""Class vectors of others: files that are no text, endless, or not finite."""

import os
from pathlib import Path

import numpy as np
import pytest

from robustcl.core.errors import InputError
from robustcl.training.targets import embed_targets, load_targets, taxonomy
from tests.fuzz.build_data import npy, odd_entries

NAMES = ("ant", "bee")
WORDS = (
    b"",
    b"ant 1 2\nbee \xff 2\n",
    b"\0" * 100,
    b"ant " + b"1 " * 600_000,
    b"ant nan 1\nbee 1 2\n",
    b"ant inf 1\nbee 1 2\n",
    b"ant 1e200 1e200\nbee 1 2\n",
    b"ant 1 2\nbee 1\n",
    b"ant 1 2\n",
    b"ant\nbee\n",
    b"ant 1_0 x\nbee 1 2",
)
TREES = (
    b"\xff",
    b"ant = {}\nant = {}",
    b"ant = 1\nbee = {}",
    b"ant = [[{}]]\nbee = {}",
    b"ant = {}\nbee = {}\n[x]\nant = {}",
    b"a = " + b"[" * 5000,
    b"a." * 3000 + b"ant = {}\nbee = {}",
    b"a." * 300_000 + b"ant = {}\nbee = {}",  # levels that take hours
    b"[" + b"a." * 200 + b"ant]\n[bee]",
    b"x = " + b"9" * 10_000,
    b"#" * 5_000_000,
    b"",
)


def test_bad_files_are_refused_in_words(tmp_path: Path) -> None:
    place = tmp_path / "x"
    arrays = (npy("(2, 10000000000)"), npy("(2,)", dtype="'|O'", data=bytes(99)), b"")
    for source, contents in (("words", WORDS), ("taxonomy", TREES), ("npy", arrays)):
        for content in contents:
            place.write_bytes(content)
            with pytest.raises(InputError):
                load_targets(f"{source}:{place}", NAMES)
            place.unlink()
        for make in odd_entries().values():
            make(place)
            with pytest.raises(InputError):
                load_targets(f"{source}:{place}", NAMES)
            place.unlink()


def test_values_that_are_no_directions_are_refused(tmp_path: Path) -> None:
    for number, array in enumerate((
        np.array([[1.0, np.nan], [1.0, 2.0]]),
        np.array([[1.0, np.inf], [1.0, 2.0]]),
        np.array([[1j, 1.0], [1.0, 2.0]]),
        np.array([["a", "b"], ["c", "d"]]),
        np.array([True, False]),
        np.zeros((2, 2), dtype=bool),
    )):
        np.save(tmp_path / f"{number}.npy", array)
        with pytest.raises(InputError):
            load_targets(f"npy:{tmp_path / f'{number}.npy'}", NAMES)
    for values in ([[0.0, 0.0], [1.0, 1.0]], [[1e200, 1e200], [1.0, 1.0]]):
        np.save(tmp_path / "x.npy", np.array(values))
        with pytest.raises(InputError, match="zero or not finite"):
            embed_targets(load_targets(f"npy:{tmp_path / 'x.npy'}", NAMES), 4)


def test_a_line_without_an_end_is_not_read_whole(tmp_path: Path) -> None:
    place = tmp_path / "x.txt"
    place.write_bytes(b"ant 1 2\n")
    os.truncate(place, 2**40)
    with pytest.raises(InputError, match=r"line 2 of .* has more than 1,048,576 bytes"):
        load_targets(f"words:{place}", NAMES)


def test_a_taxonomy_of_many_kinds_is_refused_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = {f"kind{k}": {f"class{k}": {}} for k in range(50)}
    names = [f"class{k}" for k in range(50)]
    assert taxonomy(names, tree).shape == (50, 100)
    monkeypatch.setattr("robustcl.core.memory.available_memory", lambda: 1000)
    with pytest.raises(InputError, match="100 kinds for 50 classes"):
        taxonomy(names, tree)


def test_bad_specifications() -> None:
    specs = ["", ":", "simplex,blend=nan", "simplex,blend=1e999", "simplex,center=1", "npy:\0"]
    for spec in (*specs, "words:" + "a" * 9999, "taxonomy:\udce9"):
        with pytest.raises(InputError):
            load_targets(spec, NAMES)
