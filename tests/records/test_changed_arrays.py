"""Change the arrays of a finished run: each change is named and stops no report."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustcl.evaluation.config import EvaluationConfig
from robustcl.records.arrays import array_faults, load_arrays, save_arrays
from robustcl.records.examples import load_examples
from robustcl.records.reading import load_run
from robustcl.records.summary import summarize
from robustcl.report.flags import flags
from robustcl.report.page import write_report
from tests.records.folder_of_a_run import figures, make_run

PGD, PRODUCT, SMOOTHING = "pgd:steps=5", "product", "smoothing:sigma=.25,n=20"
Change = Callable[[Path], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def arrays_of(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    shared = ("eps", "evaluations", "attack")
    names = sorted(place.stem for place in folder.glob("arrays/*.npz"))
    return {name: load_arrays(folder, name, shared=shared, lenient=True) for name in names}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(first[key], second[key], equal_nan=first[key].dtype.kind == "f")
        for key in first
    )


@pytest.mark.parametrize("name", ["embeddings", "triples"])
def test_a_flipped_bit_of_an_array_is_named_or_changes_nothing(folder: Path, name: str) -> None:
    before, draws = arrays_of(folder)[name], np.random.default_rng(1)
    place, noticed = folder / "arrays" / f"{name}.npz", 0
    content = place.read_bytes()
    positions = draws.choice(len(content), 300, replace=False).tolist()
    for position in positions:
        changed = bytearray(content)
        changed[position] ^= 1 << int(draws.integers(8))
        place.write_bytes(bytes(changed))
        faults = array_faults(folder)
        if faults:
            noticed += 1
            assert str(place) in faults[0][1] and "--resume" in faults[0][1]
            assert not load_arrays(folder, name, lenient=True)
        else:
            assert same(load_arrays(folder, name), before)
    assert noticed > 150


def swapped(folder: Path) -> None:
    first, second = (folder / "arrays" / f"{name}.npz" for name in ("embeddings", "triples"))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def of_another_run(folder: Path) -> None:
    other = make_run(folder.parent / "other", EvaluationConfig(methods=("product",), attacks=()))
    shutil.copy(other / "arrays" / "embeddings.npz", folder / "arrays")


def of_another_attack(folder: Path) -> None:
    one, other = sorted((folder / "arrays").glob("curves-*.npz"))
    shutil.copy(one, other)


def of_nobody(folder: Path) -> None:
    place = folder / "arrays" / "embeddings.npz"
    np.savez(place, **{key: value for key, value in np.load(place).items() if key != "run"})


def of_another_process(folder: Path) -> None:
    other = make_run(folder.parent / "other", EvaluationConfig(methods=("product",), attacks=()))
    kept = folder / "arrays" / "embeddings.1.npz"
    shutil.copy(other / "arrays" / "embeddings.npz", kept)


def of_two_lengths(folder: Path) -> None:
    stored = load_arrays(folder, "embeddings")
    save_arrays(folder, "embeddings", {**stored, "labels": stored["labels"][:-1]})


def without_axes(folder: Path) -> None:
    stored = load_arrays(folder, "embeddings")
    save_arrays(folder, "embeddings", {**stored, "strange": np.zeros(())})


def unpickled(folder: Path) -> None:
    place = folder / "arrays" / "embeddings.npz"
    np.savez(place, index=np.array([{}], dtype=object))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swapped, "embeddings.npz.*was written as .* triples"),
        (of_another_run, "embeddings.npz.*not for this run"),
        (of_another_attack, "curves-.*npz.*was written as"),
        (of_nobody, "embeddings.npz.*does not say to which run"),
        (of_another_process, r"embeddings\.1\.npz.*not for this run"),
        (of_two_lengths, "embeddings.npz.*different lengths"),
        (without_axes, "embeddings.npz.*'strange' has no row"),
        (unpickled, "embeddings.npz.*is damaged"),
        (lambda f: (f / "arrays/triples.npz").write_bytes(b""), "triples.npz.*is damaged"),
        (lambda f: (f / "arrays/triples.npz").write_bytes(b"PK"), "triples.npz.*is damaged"),
        (lambda f: (f / "arrays/triples.npz").unlink(), "triples.npz.*not there any more"),
    ],
)
def test_a_damaged_array_is_named_and_stops_no_report(
    folder: Path, change: Change, words: str
) -> None:
    before = figures(folder)
    change(folder)
    assert figures(folder) == before
    run = load_run(folder)
    told = [line for line in flags(run, summarize(run)) if line.startswith("A figure is missing")]
    assert re.search(words, " ".join(told)) and all("--resume" in line for line in told)
    load_examples(folder)
    assert "A figure is missing" in write_report(folder).read_text(encoding="utf-8")
