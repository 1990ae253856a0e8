"""Class vectors: their cosines are those that were promised."""

from pathlib import Path

import numpy as np
import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.training.targets import (
    centered_vectors,
    embed_targets,
    load_targets,
    simplex,
    target_geometry,
    taxonomy,
    with_simplex,
    word_vectors,
)

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LINES = "the 0 0 1\n. . 1 0 0\n\ncat 1 0 0\ndog 0.8 0.6 0\nship -1 1 0\nDeer 0 2 0\n"


def cosines(vectors: torch.Tensor) -> torch.Tensor:
    units = vectors.double() / vectors.double().norm(dim=1, keepdim=True)
    return units @ units.T


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_simplex_corners_are_equally_far_apart(classes: int) -> None:
    wanted = torch.full((classes, classes), -1.0 / (classes - 1), dtype=torch.float64)
    assert torch.allclose(cosines(simplex(classes)), wanted.fill_diagonal_(1.0))


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_blending_interpolates_cosines(blend: float) -> None:
    words = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).double()
    wanted = (1 - blend) * cosines(words) + blend * cosines(simplex(5))
    assert torch.allclose(cosines(with_simplex(words, blend)), wanted)


def test_centering_removes_a_common_part() -> None:
    words = torch.randn(6, 8, generator=torch.Generator().manual_seed(1)).double()
    shifted = words / words.norm(dim=1, keepdim=True) + 3.0
    before, after = cosines(shifted), cosines(centered_vectors(shifted))
    off = ~torch.eye(6, dtype=torch.bool)
    assert float(before[off].mean()) > 0.8 and abs(float(after[off].mean())) < 0.3


@pytest.mark.parametrize("size", [10, 64])
def test_another_size_keeps_cosines(size: int) -> None:
    vectors = with_simplex(taxonomy(CIFAR), 0.4)
    placed = embed_targets(vectors, size)
    assert placed.shape == (10, size) and placed.dtype == torch.float32
    assert torch.allclose(cosines(placed), cosines(vectors), atol=1e-6)
    assert torch.equal(placed, embed_targets(vectors, size))
    with pytest.raises(InputError, match="span 10 dimensions"):
        embed_targets(vectors, 9)
    assert embed_targets(simplex(10), 9).shape == (10, 9)  # a simplex needs one less


def test_taxonomy_cosines_count_shared_kinds() -> None:
    table = cosines(taxonomy(CIFAR))
    cat, dog, deer, bird, ship = (CIFAR.index(n) for n in ("cat", "dog", "deer", "bird", "ship"))
    assert float(table[cat, dog]) == pytest.approx(3 / 4)
    assert float(table[cat, deer]) == pytest.approx(2 / 4)
    assert float(table[cat, bird]) == pytest.approx(1 / np.sqrt(8))
    assert float(table[cat, ship]) == 0.0


def test_caps_are_distances_to_the_boundary() -> None:
    # theory.md: cosine .92 leaves .20.
    angle = np.arccos(0.92)
    vectors = torch.tensor([[1.0, 0, 0], [np.cos(angle), np.sin(angle), 0], [0, 0, 1.0]])
    found = target_geometry(vectors, ("cat", "dog", "ship"))
    assert found.closest == ("cat", "dog") and found.highest_cosine == pytest.approx(0.92)
    assert found.caps == pytest.approx((0.2, 0.2, np.sqrt(2) / 2), abs=1e-6)
    assert found.mean_cosine == pytest.approx(0.92 / 3)
    # From w_y straight to the plane of equal scores.
    step = (vectors[1] - vectors[0]) / (vectors[1] - vectors[0]).norm()
    moved = vectors[0] + found.caps[0] * step
    assert float((vectors[0] - vectors[1]) @ moved) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("header", ["", "5 3\n"])
def test_word_vectors(tmp_path: Path, header: str) -> None:
    place = tmp_path / "words.txt"
    place.write_text(header + LINES)
    vectors = word_vectors(place, ("dog", "Cat", "the_ship"))
    assert vectors[0].tolist() == [0.8, 0.6, 0.0] and vectors[1].tolist() == [1.0, 0.0, 0.0]
    mean = np.mean([[0, 0, 1], [-(0.5**0.5), 0.5**0.5, 0]], axis=0)
    assert np.allclose(vectors[2].numpy(), mean)
    blended = load_targets(f"words:{place},center=true,blend=.5", ("dog", "cat", "ship"))
    wanted = 0.5 * cosines(centered_vectors(word_vectors(place, ("dog", "cat", "ship"))))
    assert torch.allclose(cosines(blended), wanted + 0.5 * cosines(simplex(3)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINES, "no vector for 1 of 2 classes .zebra."),
        ("cat 1 2\nzebra 1\n", "line 2 .* 1 numbers, not 2"),
        ("cat 1 x\nzebra 1 2\n", "line 1 .* not a vector"),
        ("cat 0 0\nzebra 1 2\n", "line 1 .* zero or not finite"),
    ],
)
def test_bad_word_vectors(tmp_path: Path, text: str, message: str) -> None:
    place = tmp_path / "words.txt"
    place.write_text(text)
    with pytest.raises(InputError, match=message):
        word_vectors(place, ("cat", "zebra"))
    (tmp_path / "words.bin").write_bytes(b"5 3\ncat \xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not text"):
        word_vectors(tmp_path / "words.bin", ("cat",))


def test_arrays_and_trees(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(3, 4))
    assert torch.equal(load_targets(f"npy:{tmp_path / 'a.npy'}", "abc"), torch.eye(3, 4).double())
    with pytest.raises(InputError, match=r"shape \(3, 4\)"):
        load_targets(f"npy:{tmp_path / 'a.npy'}", "abcd")
    np.save(tmp_path / "o.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="pickles are refused"):
        load_targets(f"npy:{tmp_path / 'o.npy'}", "ab")
    (tmp_path / "t.toml").write_text("low = {a = {}, b = {}}\nc = {}\n")
    table = cosines(load_targets(f"taxonomy:{tmp_path / 't.toml'}", "abc"))
    assert float(table[0, 1]) == pytest.approx(0.5) and float(table[0, 2]) == 0.0


@pytest.mark.parametrize("spec", ["cubes", "words:", "simplex,blend=2", "simplex,sharp=1"])
def test_refuses_specifications(spec: str) -> None:
    with pytest.raises(InputError):
        load_targets(spec, CIFAR)


def test_refuses_classes_outside_the_tree() -> None:
    with pytest.raises(InputError, match="no zebra"):
        taxonomy(("cat", "zebra"))
