"""A damaged reproducer is refused: it answers neither 'confirmed' nor 'not confirmed'."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from robustcl.cli.main import robustcl
from robustcl.core.errors import InputError
from robustcl.evaluation.reproducer import (
    REPRODUCER_KEY,
    Reproducer,
    load_reproducer,
    replay,
    save_reproducer,
)
from robustcl.models.checkpoint import load_checkpoint

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "runs"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "v.safetensors"
    save_reproducer(place, load_reproducer(GOLDEN / "violation.safetensors"))
    return place


def content_of(place: Path) -> dict[str, Any]:
    raw = place.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(json.loads(raw[8 : 8 + size])["__metadata__"][REPRODUCER_KEY])


def rewrite(place: Path, *, old: bool, tensors: dict[str, Any] | None = None, **changes: Any):
    """Write the file with other fields; as version 0.1, which has no checksum, where `old`."""
    content = {**content_of(place), **changes}
    content = {key: value for key, value in content.items() if value is not ...}
    if old:
        content |= {"schema": 1}
        content.pop("checksum", None)
    kept = {**load_file(place), **(tensors or {})}
    kept = {name: tensor for name, tensor in kept.items() if tensor is not None}
    save_file(kept, place, metadata={REPRODUCER_KEY: json.dumps(content, sort_keys=True)})


def test_it_comes_back_as_it_was(place: Path) -> None:
    before, after = load_reproducer(GOLDEN / "violation.safetensors"), load_reproducer(place)
    assert after.sealed and after.violation == before.violation
    assert torch.equal(after.image, before.image)
    assert torch.equal(after.perturbation, before.perturbation)
    model = load_checkpoint(GOLDEN / "model.safetensors").classifier
    assert model is not None and replay(after, model).confirmed
    command = ["reproduce", str(place), "--checkpoint", str(GOLDEN / "model.safetensors")]
    assert robustcl(command) == 1


def test_every_flipped_bit_is_found(place: Path) -> None:
    raw, before, draws = place.read_bytes(), load_reproducer(place), np.random.default_rng(0)
    refused = 0
    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 1 << int(draws.integers(8))
        place.write_bytes(bytes(changed))
        found = loaded(place)
        if found is None:
            refused += 1
        else:  # blanks that pad the header
            assert found.violation == before.violation
            assert torch.equal(found.perturbation, before.perturbation)
            assert torch.equal(found.image, before.image)
    assert refused > len(raw) - 20


def loaded(place: Path) -> Reproducer | None:
    try:
        return load_reproducer(place)
    except InputError as error:
        if str(place) not in str(error):
            raise
        return None


FIELDS = [
    ("index", -1, "field index: expected int >= 0"),
    ("index", 1.0, "field index: expected int, got float"),
    ("index", True, "field index: expected int, got bool"),
    ("index", None, "field index: expected int, got null"),
    ("predicted", -1, "field predicted: expected int >= 0"),
    ("predicted", "1", "field predicted: expected int, got str"),
    ("predicted", 8, "predicted class and its rival are both 8"),
    ("rival", -1, "field rival: expected int >= 0"),
    ("rival", 1, "both 1"),
    ("norm", "l3", "field norm: 'l3' is none of 'l2', 'linf', 'l1'"),
    ("norm", 2, "field norm: expected str, got int"),
    ("certified", 0.0, "no violation"),
    ("certified", -1.0, "no violation"),
    ("certified", float("nan"), "no violation"),
    ("certified", "1", "field certified: expected float, got str"),
    ("certified", 0.01, "no violation"),
    ("attacked", 0.0, "no violation"),
    ("attacked", 9.0, "no violation"),
    ("attacked", float("nan"), "field attacked is nan, no finite number"),
    ("attacked", float("inf"), "field attacked is inf, no finite number"),
    ("certificate", None, "field certificate: expected str, got null"),
    ("network", 7, "field network: expected str, got int"),
    ("versions", [], "field versions: expected table, got list"),
    ("data", ..., "field data is missing"),
    ("color", "red", "field 'color' is not known"),
]


@pytest.mark.parametrize(("name", "value", "words"), FIELDS)
def test_every_field_is_looked_at(place: Path, name: str, value: Any, words: str) -> None:
    kept = place.read_bytes()
    rewrite(place, old=False, **{name: value})
    with pytest.raises(InputError, match="changed after it was written"):
        load_reproducer(place)
    place.write_bytes(kept)
    rewrite(place, old=True, **{name: value})
    with pytest.raises(InputError, match=rf"is not usable: .*{words}"):
        load_reproducer(place)
    command = ["reproduce", str(place), "--checkpoint", str(GOLDEN / "model.safetensors")]
    assert robustcl(command) == 2


IMAGE = torch.full((1, 8, 8), 0.5)
TENSORS: list[tuple[dict[str, Any], str]] = [
    ({"image": IMAGE + 1}, r"pixels outside \[0, 1\]"),
    ({"image": IMAGE - 1}, r"pixels outside \[0, 1\]"),
    ({"image": IMAGE * torch.nan}, r"pixels outside \[0, 1\]"),
    ({"image": IMAGE.double()}, "torch.float64"),
    ({"image": IMAGE[0]}, r"image is \(8, 8\)"),
    ({"image": IMAGE[:, :4]}, r"image is \(1, 4, 8\)"),
    ({"image": IMAGE[:, :0], "perturbation": IMAGE[:, :0].double()}, r"image is \(1, 0, 8\)"),
    ({"perturbation": IMAGE.double() * torch.inf}, "not finite"),
    ({"perturbation": IMAGE.double() * torch.nan}, "not finite"),
    ({"perturbation": IMAGE}, "perturbation torch.float32"),
    ({"perturbation": None}, "it holds image"),
    ({"third": IMAGE}, "it holds image, perturbation, third"),
]


@pytest.mark.parametrize(("tensors", "words"), TENSORS)
def test_both_tensors_are_looked_at(place: Path, tensors: dict[str, Any], words: str) -> None:
    kept = place.read_bytes()
    tensors = {name: t if t is None else t.contiguous() for name, t in tensors.items()}
    rewrite(place, old=False, tensors=tensors)
    with pytest.raises(InputError, match="changed after it was written"):
        load_reproducer(place)
    place.write_bytes(kept)
    rewrite(place, old=True, tensors=tensors)
    with pytest.raises(InputError, match=rf"is not usable: .*{words}"):
        load_reproducer(place)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 3}, "has schema '3', this version reads 1 and 2; install robustcl 0.1.0"),
        ({"schema": 3, "versions": 7}, "install robustcl of the run"),
        ({"schema": 1}, "changed after it was written"),
        ({"checksum": ...}, "changed after it was written"),
        ({"checksum": 7}, "changed after it was written"),
    ],
)
def test_schema_and_checksum_belong_together(place: Path, changes: dict, words: str) -> None:
    rewrite(place, old=False, **changes)
    with pytest.raises(InputError, match=words):
        load_reproducer(place)


@pytest.mark.parametrize("text", ["[]", "null", "{", "7", '"x"', "[" * 100_000])
def test_metadata_of_other_kinds_is_refused(place: Path, text: str) -> None:
    save_file(load_file(place), place, metadata={REPRODUCER_KEY: text})
    with pytest.raises(InputError, match="no reproducer of a violation"):
        load_reproducer(place)


def test_an_endless_certificate_can_be_beaten(place: Path) -> None:
    found = load_reproducer(place)
    endless = replace(found.violation, certified=float("inf"))
    save_reproducer(place, replace(found, violation=endless))
    model = load_checkpoint(GOLDEN / "model.safetensors").classifier
    assert model is not None and replay(load_reproducer(place), model).confirmed


@pytest.mark.parametrize(
    "change",
    [
        lambda f: replace(f, image=f.image[:, :4], perturbation=f.perturbation[:, :4]),
        lambda f: replace(f, violation=replace(f.violation, predicted=10)),
    ],
)
def test_what_the_network_does_not_take_is_refused(
    place: Path, change: Callable[[Reproducer], Reproducer]
) -> None:
    found = load_reproducer(place)
    model = load_checkpoint(GOLDEN / "model.safetensors").classifier
    assert model is not None
    save_reproducer(place, change(found))
    with pytest.raises(InputError, match="the network"):
        replay(load_reproducer(place), model)
