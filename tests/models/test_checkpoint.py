"""Damaged and foreign checkpoints are refused; old ones load with a word; types come back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robustcl.cli.main import robustcl
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import CheckpointError, RobustclError
from robustcl.models.checkpoint import load_checkpoint, read_description, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import batch_norm_convnet
from robustcl.models.heads import KNNHead, LinearHead, PrototypeHead
from robustcl.models.stored_file import DESCRIPTION_KEY, STORED_CHECKSUM, read_stored
from tests.cli.write_signed import write_signed
from tests.network import some_images

GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoints" / "old.safetensors"
SHIPPED = Path(__file__).parents[2] / "benchmarks" / "checkpoints"
ARGUMENTS = {"channels": 1, "image_size": 8, "width": 2, "embedding_size": 3}
DESCRIPTION = Description("batch_norm_convnet", ARGUMENTS, (1, 8, 8), (0.3,), (0.4,), 3)
# Printed by the commit that wrote the golden file.
GOLDEN_SCORES = [
    [0.007507756352424622, -0.49723580479621887, -0.028335481882095337, 0.7453389167785645],
    [0.005985483527183533, -0.4901719093322754, -0.037296414375305176, 0.7451947927474976],
]


def model(head: torch.nn.Module | None = None) -> Classifier:
    torch.manual_seed(0)
    network = batch_norm_convnet(**ARGUMENTS)
    network.train()(torch.randn(32, 1, 8, 8))
    encoder = Encoder(network, image_shape=(1, 8, 8), mean=(0.3,), std=(0.4,))
    return Classifier(encoder, head or PrototypeHead(torch.randn(4, 3))).eval()


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    place = tmp_path / "sound.safetensors"
    save_checkpoint(place, model(), DESCRIPTION)
    return place


def header_length(content: bytes) -> int:
    return int.from_bytes(content[:8], "little")


def refused(place: Path, content: bytes) -> bool:
    place.write_bytes(content)
    try:
        load_checkpoint(place)
    except CheckpointError as error:
        return "\n" not in str(error)
    return False


def test_one_flipped_bit_anywhere_is_found(sound: Path, tmp_path: Path) -> None:
    content = sound.read_bytes()
    places = [(byte, bit) for byte in range(8) for bit in range(8)]
    start = 8 + header_length(content)
    steps = (*range(8, start), *range(start, len(content), 5))
    places += [(byte, byte % 8) for byte in steps]
    accepted = []
    for byte, bit in places:
        spoiled = bytearray(content)
        spoiled[byte] ^= 1 << bit
        if not refused(tmp_path / "spoiled.safetensors", bytes(spoiled)):
            accepted.append((byte, bit, content[byte - 9 : byte + 9]))
    assert len(places) > 2500 and not accepted


def regions(content: bytes) -> dict[str, int]:
    start = 8 + header_length(content)
    header = json.loads(content[8:start])
    return {
        "first byte of the length": 0,
        "last byte of the length": 7,
        "name of a tensor": content.index(b"encoder.backbone"),
        "type of a tensor": content.index(b'"F32"') + 1,
        "shape of a tensor": content.index(b'"shape":[') + 9,
        "place of a tensor": content.index(b'"data_offsets":[') + 16,
        "key of the description": content.index(f'"{DESCRIPTION_KEY}"'.encode()) + 1,
        "key of the checksum": content.index(STORED_CHECKSUM.encode()) + 12,
        "architecture": content.index(b"batch_norm_convnet"),
        "mean": content.index(b"0.3") + 2,
        "promise of a checksum": content.index(b"checksum"),
        "checksum": content.index(header["__metadata__"][STORED_CHECKSUM].encode()) + 30,
        "first weight": start,
        "weight in the middle": (start + len(content)) // 2,
        "last weight": len(content) - 1,
    }


REGIONS = 15


@pytest.mark.parametrize("number", range(REGIONS))
def test_every_bit_of_a_byte_in_each_region(number: int, sound: Path, tmp_path: Path) -> None:
    content = sound.read_bytes()
    assert len(regions(content)) == REGIONS
    byte = list(regions(content).values())[number]
    for bit in range(8):
        spoiled = bytearray(content)
        spoiled[byte] ^= 1 << bit
        assert refused(tmp_path / "spoiled.safetensors", bytes(spoiled))


@pytest.mark.parametrize("count", [1, 4, 100, 10**6])
def test_files_that_are_cut_or_continued(count: int, sound: Path, tmp_path: Path) -> None:
    content = sound.read_bytes()
    place = tmp_path / "spoiled.safetensors"
    assert refused(place, content[:-count]) and refused(place, content[count:])
    assert refused(place, content + b"\0" * count) and refused(place, b"\0" * count + content)


def test_weights_and_description_of_two_files_do_not_go_together(
    sound: Path, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, model(PrototypeHead(torch.randn(4, 3))), DESCRIPTION)
    assert not refused(tmp_path / "x.safetensors", other.read_bytes())
    start = 8 + header_length(sound.read_bytes())
    mixed = sound.read_bytes()[:start] + other.read_bytes()[start:]
    assert sound.read_bytes()[start:] != other.read_bytes()[start:]
    assert refused(tmp_path / "x.safetensors", mixed)


Tensors = dict[str, Tensor]
BN, CONV = "encoder.backbone.1", "encoder.backbone.0.weight"


def put(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: change(tensors[name])}


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {k: v for k, v in tensors.items() if k != name}


WRONG: dict[str, Callable[[Tensors], Tensors]] = {
    **{
        f"{name} {kind}": put(name, lambda v, k=kind: v.to(k))
        for name in (CONV, f"{BN}.running_mean", "head.weight", "encoder.mean")
        for kind in (torch.int64, torch.bool, torch.complex64)
    },
    **{
        f"{name} one of two types {kind}": put(name, lambda v, k=kind: v.to(k))
        for name in (CONV, f"{BN}.running_var")
        for kind in (torch.float16, torch.bfloat16, torch.float64)
    },
    "counter float": put(f"{BN}.num_batches_tracked", lambda v: v.float()),
    "counter int32": put(f"{BN}.num_batches_tracked", lambda v: v.int()),
    "counter with an axis": put(f"{BN}.num_batches_tracked", lambda v: v[None]),
    "negative variance": put(f"{BN}.running_var", lambda v: -v),
    "NaN": put(CONV, lambda v: v * torch.nan),
    "infinite bias": put(f"{BN}.bias", lambda v: v + torch.inf),
    "NaN in the head": put("head.weight", lambda v: v * torch.nan),
    "another mean": put("encoder.mean", lambda v: v + 0.1),
    "another std": put("encoder.std", lambda v: v * 2),
    "shape to broadcast": put(f"{BN}.weight", lambda v: v[:1]),
    "wider": put(CONV, lambda v: torch.cat([v, v])),
    "missing": without(CONV),
    "missing head": without("head.weight"),
    "missing mean": without("encoder.mean"),
    "one more": lambda tensors: {**tensors, "encoder.gate.weight": torch.ones(2)},
    "one more in the head": lambda tensors: {**tensors, "head.gate": torch.ones(2)},
    "head of another size": put("head.weight", lambda v: torch.ones(4, 5)),
    "head with other classes": put("head.weight", lambda v: torch.ones(5, 3)),
    "head without an axis": put("head.weight", lambda v: v[0]),
}


@pytest.mark.parametrize("case", WRONG)
def test_tensors_of_another_network_are_refused(case: str, sound: Path, tmp_path: Path) -> None:
    stored = read_stored(sound)
    text = json.loads(sound.read_bytes()[8 : 8 + header_length(sound.read_bytes())])
    spoiled = {name: value.contiguous() for name, value in WRONG[case](stored.tensors).items()}
    place = tmp_path / "wrong.safetensors"
    write_signed(place, text["__metadata__"][DESCRIPTION_KEY], spoiled)
    with pytest.raises(RobustclError):
        load_checkpoint(place)


@pytest.mark.parametrize(
    "entries",
    [
        {"architecture": "strided_convnet"},
        {"arguments": {**ARGUMENTS, "width": 3}},
        {"arguments": {**ARGUMENTS, "embedding_size": 4}},
        {"arguments": {**ARGUMENTS, "depth": 4}},
        {"arguments": []},
        {"image_shape": [1, 8]},
        {"image_shape": 8},
        {"mean": [0.3, 0.3]},
        {"mean": [0.2]},
        {"std": [0.0]},
        {"std": [float("nan")]},
        {"head": "linear"},
        {"head": "knn"},
        {"head": "other"},
        {"embedding_size": 4},
        {"class_names": ["a"]},
        {"schema": 2},
        {"schema": None},
    ],
)
def test_descriptions_of_another_network_are_refused(
    entries: dict[str, Any], sound: Path, tmp_path: Path
) -> None:
    content = sound.read_bytes()
    text = json.loads(content[8 : 8 + header_length(content)])["__metadata__"][DESCRIPTION_KEY]
    changed = json.dumps({**json.loads(text), **entries})
    write_signed(tmp_path / "wrong.safetensors", changed, read_stored(sound).tensors)
    with pytest.raises(RobustclError):
        load_checkpoint(tmp_path / "wrong.safetensors")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("head", ["prototype", "linear", "knn"])
def test_every_type_comes_back_bit_for_bit(kind, head: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    heads = {
        "prototype": PrototypeHead(torch.randn(4, 3)),
        "linear": LinearHead(torch.randn(4, 3), torch.randn(4)),
        "knn": KNNHead(torch.randn(9, 3), torch.arange(9) % 4, k=3, num_classes=4),
    }
    saved = model(heads[head])
    with torch.no_grad():
        for weight in saved.double().parameters():
            weight += 1e-10 * torch.randn(weight.shape, dtype=torch.float64)  # beyond float32
    saved = saved.to(kind)
    save_checkpoint(tmp_path / "a.safetensors", saved, DESCRIPTION)
    loaded = load_checkpoint(tmp_path / "a.safetensors").classifier
    assert loaded is not None
    own, other = saved.state_dict(), loaded.state_dict()
    assert own.keys() == other.keys()
    for name, value in own.items():
        assert value.dtype == other[name].dtype and torch.equal(value, other[name])
    assert torch.equal(saved(some_images(4)), loaded(some_images(4)))


def test_an_old_checkpoint_loads_with_a_word(tmp_path: Path, capsys) -> None:
    loaded = load_checkpoint(GOLDEN)
    assert loaded.classifier is not None
    assert loaded.description.normalization == ""
    assert "has no checksum" in loaded.notes[0] and "old.safetensors" in loaded.notes[0]
    images = torch.linspace(0, 1, 128).reshape(2, 1, 8, 8)
    assert torch.allclose(loaded.classifier(images), torch.tensor(GOLDEN_SCORES), atol=1e-6)
    assert robustcl(["inspect", str(GOLDEN)]) == 0
    assert "no checksum" in "".join(capsys.readouterr())
    data = ["--data", "digits", "--limit", "60"]
    for command, name in (("probe", "a.safetensors"), ("embed", "a.npz")):
        assert robustcl([command, str(GOLDEN), *data, "--out", str(tmp_path / name)]) == 0
        said = "".join(capsys.readouterr())
        assert sum("has no checksum" in line for line in said.splitlines()) == 1
    assert load_checkpoint(tmp_path / "a.safetensors").notes == ()
    assert robustcl(["inspect", str(tmp_path / "a.safetensors")]) == 0
    assert "checksum: right" in "".join(capsys.readouterr())


@pytest.mark.parametrize("place", sorted(SHIPPED.glob("*.safetensors")), ids=lambda p: p.stem)
def test_shipped_checkpoints_load_with_a_word(place: Path) -> None:
    loaded = load_checkpoint(place)
    assert loaded.classifier is not None and len(loaded.notes) == 1


def test_an_earlier_reader_finds_what_it_knows(sound: Path) -> None:
    # It took the entries that it knew from this key, and refused schemas other than 1.
    content = sound.read_bytes()
    metadata = json.loads(content[8 : 8 + header_length(content)])["__metadata__"]
    old = json.loads(GOLDEN.read_bytes()[8 : 8 + header_length(GOLDEN.read_bytes())])
    before = json.loads(old["__metadata__"][DESCRIPTION_KEY])
    now = json.loads(metadata[DESCRIPTION_KEY])
    assert before["schema"] == now["schema"] == 1
    assert set(before) <= set(now)
    assert {type(now[key]) for key in before} == {type(before[key]) for key in before}
    _, tensors = read_description(sound)
    assert tensors.keys() == read_description(GOLDEN)[1].keys()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(sound: Path, monkeypatch) -> None:
    before = sound.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("robustcl.models.stored_file.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(sound, model(), DESCRIPTION)
    assert sound.read_bytes() == before
    assert list(sound.parent.iterdir()) == [sound]
