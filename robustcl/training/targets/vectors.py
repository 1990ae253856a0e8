"""Class vectors: of a simplex, a file, words, embeddings."""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError
from robustcl.core.files import open_file
from robustcl.data.stored_array import read_npy


def embed_targets(vectors: Tensor, size: int, *, seed: int = 0) -> Tensor:
    """Return unit vectors of another size with the same pairwise cosines.

    The vectors are written in the basis of their own span and turned by a random rotation, so
    that no coordinate of the embedding is singled out.

    Args:
        vectors: (K, D).
        size: d, at least the rank of the vectors.
        seed: Seed of the rotation.

    Returns:
        (K, d) unit rows in float32.

    Raises:
        InputError: When d is below the rank, or a vector is zero or not finite.
    """
    norms = vectors.double().norm(dim=1)
    if not bool((torch.isfinite(norms) & (norms > 0)).all()):
        raise InputError("a class vector is zero or not finite; give every class a direction")
    units = functional.normalize(vectors.double(), dim=1)
    left, values, _ = torch.linalg.svd(units, full_matrices=False)
    rank = int((values > 1e-9 * values[0]).sum())
    if rank > size:
        raise InputError(
            f"{len(units)} class vectors span {rank} dimensions but the embedding has {size}; "
            f"use an embedding of {rank} or more"
        )
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, rank, generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(noise)
    return ((left * values)[:, :rank] @ basis.T).float()


def npy_vectors(path: str | Path, num_classes: int) -> Tensor:
    """Read one vector per class, in the order of the classes. Nothing is unpickled.

    Args:
        path: The file, an array (K, D).
        num_classes: K.

    Returns:
        (K, D) in float64.

    Raises:
        InputError: When the file is missing or unreadable, or its array does not fit.
    """
    array = read_npy(Path(path))
    if array.ndim != 2 or len(array) != num_classes:
        raise InputError(
            f"{str(path)!r} has shape {array.shape}; expected one row per class, ({num_classes}, D)"
        )
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise InputError(f"{str(path)!r} has values that are not finite real numbers; mend them")
    return torch.from_numpy(array.astype(np.float64))


def simplex(num_classes: int) -> Tensor:
    """Return the corners of a regular simplex.

    Args:
        num_classes: K >= 2.

    Returns:
        (K, K) unit rows in float64, any two with cosine -1 / (K - 1).

    Raises:
        InputError: When K is below 2.
    """
    if num_classes < 2:
        raise InputError(f"a simplex of {num_classes} classes has no two corners; need 2 or more")
    corners = torch.eye(num_classes, dtype=torch.float64) - 1.0 / num_classes
    return functional.normalize(corners, dim=1)


def centered_vectors(vectors: Tensor) -> Tensor:
    """Subtract the mean of the unit vectors and normalize again.

    Args:
        vectors: (K, D), K >= 2.

    Returns:
        (K, D) unit rows.

    Raises:
        InputError: When a vector equals the mean.
    """
    units = functional.normalize(vectors.double(), dim=1)
    moved = units - units.mean(dim=0)
    if not bool((moved.norm(dim=1) > 1e-9).all()):
        raise InputError("a class vector equals the mean of all; it has no direction of its own")
    return functional.normalize(moved, dim=1)


def with_simplex(vectors: Tensor, blend: float) -> Tensor:
    """Blend class vectors with a simplex in a space of its own.

    Args:
        vectors: (K, D).
        blend: 0 leaves the vectors as they are, 1 gives the simplex.

    Returns:
        (K, D + K) unit rows whose cosines are (1 - blend) old + blend (-1 / (K - 1)).

    Raises:
        InputError: When the blend is outside [0, 1].
    """
    if not 0.0 <= blend <= 1.0:
        raise InputError(f"blend {blend} is not in [0, 1]; 0 keeps the vectors, 1 is the simplex")
    units = functional.normalize(vectors.double(), dim=1)
    corners = simplex(len(units))
    return torch.cat([math.sqrt(1.0 - blend) * units, math.sqrt(blend) * corners], dim=1)


_LONGEST = 2**20  # bytes of a line; a word and 10,000 numbers take a tenth of that


def word_vectors(path: str | Path, class_names: Sequence[str]) -> Tensor:
    """Read class vectors from text in the format of word2vec or GloVe.

    Each line is a word and D numbers, separated by spaces; a first line 'N D' may stand above.
    A name is looked up as it is, in small letters, and with underscores or hyphens in place of
    its spaces; failing that, a name of several words gets the mean of its words' unit vectors.

    Args:
        path: The file.
        class_names: K names.

    Returns:
        (K, D) in float64.

    Raises:
        InputError: When the file is missing, a line is not a word with numbers, or a class has no
            vector.

    Reference:
        Mikolov et al., Efficient Estimation of Word Representations in Vector Space, 2013 (the
        format is that of its program).
    """
    found = _read(Path(path), {word for name in class_names for word in _all_words(name)})
    rows, missing = [], []
    for name in class_names:
        row = _lookup(name, found)
        if row is None:
            missing.append(name)
        else:
            rows.append(row)
    if missing:
        raise InputError(
            f"{str(path)!r} has no vector for {len(missing)} of {len(class_names)} classes "
            f"({', '.join(missing[:5])}); rename these classes, add lines for them, or use "
            "--targets simplex"
        )
    return torch.from_numpy(np.stack(rows))


def _spellings(name: str) -> list[str]:
    words = re.split(r"[\s_-]+", name.strip())
    joined = ["_".join(words), "-".join(words), "".join(words)]
    return list(dict.fromkeys([name, name.lower(), *joined, *(word.lower() for word in joined)]))


def _all_words(name: str) -> list[str]:
    words = re.split(r"[\s_-]+", name.strip())
    return [*_spellings(name), *words, *(word.lower() for word in words)]


def _lookup(name: str, found: dict[str, np.ndarray]) -> np.ndarray | None:
    for spelling in _spellings(name):
        if spelling in found:
            return found[spelling]
    parts = [
        found[word] if word in found else found.get(word.lower())
        for word in re.split(r"[\s_-]+", name.strip())
    ]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not known:
        return None
    return np.mean([part / np.linalg.norm(part) for part in known], axis=0)


def _read(path: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    size = None
    with open_file(path, cure="give words:FILE a file of word vectors") as stream:
        for number, line in enumerate(_lines(stream, path), start=1):
            if not line.strip():
                continue
            word, *values = line.split()
            if number == 1 and len(values) == 1:
                continue  # the header of word2vec
            size = size or len(values)
            if len(values) > size:  # some words of GloVe hold spaces
                word, values = "_".join([word, *values[:-size]]), values[-size:]
            if len(values) != size or not size:
                raise InputError(
                    f"line {number} of {str(path)!r} has {len(values)} numbers, not {size}; "
                    "expected a word and its vector, separated by spaces"
                )
            if word in wanted and word not in found:
                found[word] = _numbers(values, number, path)
    return found


def _lines(stream: BinaryIO, path: Path) -> Iterator[str]:
    number = 0
    while content := stream.readline(_LONGEST + 1):
        number += 1
        if len(content) > _LONGEST:
            raise InputError(
                f"line {number} of {str(path)!r} has more than {_LONGEST:,} bytes; expected a word "
                "and its vector, separated by spaces"
            )
        try:
            yield content.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{str(path)!r} is not text; word2vec's binary format is not read, write it as text"
            ) from error


def _numbers(values: list[str], line: int, path: Path) -> np.ndarray:
    try:
        row = np.array([float(value) for value in values])
    except ValueError as error:
        raise InputError(f"line {line} of {str(path)!r} is not a vector ({error})") from error
    if not np.isfinite(row).all() or not 0 < np.linalg.norm(row) < np.inf:
        raise InputError(f"line {line} of {str(path)!r} is zero or not finite; remove it")
    return row
