"""A external model's encoder comes in, and bad files are refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file

from robustcl.cli.main import certify, robustcl
from robustcl.core.errors import CheckpointError, InputError
from robustcl.models.architectures import build_backbone
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.weights.contents import networks_in
from robustcl.models.weights.placing import find_match
from robustcl.records.reading import load_run
from tests.cli.write_signed import write_signed
from tests.network import small_classifier, some_images


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stranger")
    torch.manual_seed(0)
    state = torchvision.models.resnet18().state_dict()
    torch.save({f"backbone.{key}": value for key, value in state.items()}, folder / "weights.pth")
    draws = np.random.default_rng(0)
    for number, name in enumerate(("dark", "light", "mixed")):
        place = folder / "images" / name
        place.mkdir(parents=True)
        for index in range(10):
            low, high = ((0, 90), (160, 255), (0, 255))[number]
            pixels = draws.integers(low, high, size=(32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{index}.png")
    arguments = ["convert", str(folder / "weights.pth"), "--arch", "torchvision:resnet18"]
    arguments += ["--input-size", "32", "--mean", ".485,.456,.406", "--std", ".229,.224,.225"]
    assert robustcl([*arguments, "--out", str(folder / "encoder.safetensors")]) == 0
    data = f"imagefolder:{folder / 'images'}"
    arguments = ["probe", str(folder / "encoder.safetensors"), "--data", data]
    assert robustcl([*arguments, "--out", str(folder / "probe.safetensors")]) == 0
    return folder


def test_run_ends_with_a_report(stranger: Path, tmp_path: Path) -> None:
    arguments = ["run", str(stranger / "probe.safetensors")]
    arguments += ["--data", f"imagefolder:{stranger / 'images'}", "--methods", "smoothing:n=100"]
    arguments += ["--attack", "pgd:steps=5", "--eps", "0.5,1", "--batch-size", "8", "--quiet"]
    assert certify([*arguments, "--out", str(tmp_path / "run")]) == 0
    run = load_run(tmp_path / "run")
    assert len(run.clean) == len(run.certificates) == len(run.attacks) == 6
    assert set(run.certificates["guarantee"]) == {"probabilistic"}
    assert run.manifest["complete"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "smoothed model (sigma=0.25, vote)" in page
    assert "There is no deterministic certificate for the model itself." in page


def test_the_probe_leaves_the_encoder_alone(stranger: Path) -> None:
    before = load_file(stranger / "encoder.safetensors")
    after = load_file(stranger / "probe.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    state = torch.load(stranger / "weights.pth", weights_only=True)
    kept = {name: v for name, v in state.items() if ".fc." not in name}
    assert len(kept) == 120
    for name, value in kept.items():
        assert torch.equal(after[f"encoder.{name}"], value)


def test_a_partial_load_is_refused_unless_told(stranger: Path, tmp_path: Path, capsys) -> None:
    state = torch.load(stranger / "weights.pth", weights_only=True)
    part = {key: value for key, value in state.items() if "layer4" not in key}
    part["backbone.odd.weight"] = torch.zeros(3)
    torch.save(part, tmp_path / "part.pth")
    arguments = ["convert", str(tmp_path / "part.pth"), "--arch", "torchvision:resnet18"]
    arguments += ["--input-size", "32", "--out", str(tmp_path / "part.safetensors")]
    assert robustcl(arguments) == 2
    assert not (tmp_path / "part.safetensors").exists()
    message = capsys.readouterr().err
    assert "layer4" in message
    assert "odd.weight" in message
    assert robustcl([*arguments, "--allow-partial"]) == 0


class Spy:
    def __reduce__(self):
        return (Path("/nonexistent").joinpath, ("spied",))


def test_a_pickle_with_code_is_not_run(tmp_path: Path, capsys) -> None:
    torch.save({"state_dict": Spy()}, tmp_path / "evil.pth")
    arguments = ["convert", str(tmp_path / "evil.pth"), "--arch", "torchvision:resnet18"]
    assert robustcl([*arguments, "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "run code" in capsys.readouterr().err


def test_bad_checkpoints_get_their_own_message(stranger: Path, tmp_path: Path) -> None:
    good = (stranger / "probe.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(good[: len(good) // 2])
    tensors = load_file(stranger / "probe.safetensors")
    header = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])
    metadata = header["__metadata__"]
    name = "encoder.backbone.conv1.weight"
    spoiled = {**tensors, name: torch.full_like(tensors[name], torch.nan)}
    text = metadata["robustcl"]
    write_signed(tmp_path / "nan.safetensors", text, spoiled)
    save_file(tensors, tmp_path / "foreign.safetensors")
    fewer = {key: value for key, value in tensors.items() if key != name}
    write_signed(tmp_path / "other.safetensors", text, fewer)
    factory = text.replace("torchvision:resnet18", "evil.module:factory")
    write_signed(tmp_path / "factory.safetensors", factory, tensors)
    cases = {
        "cut": "damaged",
        "nan": "NaN",
        "foreign": "no robustcl description",
        "other": "conv1",
        "factory": "--arch evil.module:factory",
        "absent": "no checkpoint",
    }
    for file, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / f"{file}.safetensors")
    with pytest.raises(CheckpointError, match="pickle"):
        load_checkpoint(stranger / "weights.pth")


def test_bad_requests_are_refused(stranger: Path, tmp_path: Path, capsys) -> None:
    probe = str(stranger / "probe.safetensors")
    data = f"imagefolder:{stranger / 'images'}"
    out = ["--out", str(tmp_path / "run"), "--quiet"]
    cases = {
        "product": ["run", probe, "--data", data, "--methods", "produkt"],
        "name the classes": ["run", probe, "--data", "digits"],
        "takes": ["run", probe, "--data", "npz:SMALL", "--classes", "positions"],
        "fit one by": ["run", str(stranger / "encoder.safetensors"), "--data", data],
        "ascending": ["run", probe, "--data", data, "--eps", "0.5,0.1"],
        "--limit 0": ["run", probe, "--data", data, "--limit", "0"],
    }
    small = tmp_path / "small.npz"
    np.savez(small, images=np.zeros((10, 4, 4, 3), np.uint8), labels=np.arange(10) % 3)
    for message, arguments in cases.items():
        words = [word.replace("SMALL", str(small)) for word in arguments]
        assert certify([*words, *out]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_file_cannot_make_a_library_read_other_files() -> None:
    for key in ("weights", "pretrained_cfg", "checkpoint_path"):
        with pytest.raises(InputError, match="reads other files"):
            build_backbone("torchvision:resnet18", {key: "DEFAULT"})


def test_a_teacher_and_a_student_are_told_apart() -> None:
    layer = torch.nn.Linear(2, 3)
    state = {
        f"{prefix}{k}": v + number
        for number, prefix in enumerate(("net.", "model."))
        for k, v in layer.state_dict().items()
    }
    with pytest.raises(CheckpointError, match="2 networks of the file fit: 'net', 'model'"):
        find_match(layer, networks_in(state))


def test_a_sound_file_may_begin_like_a_pickle(tmp_path: Path) -> None:
    place, model = tmp_path / "model.safetensors", small_classifier()
    arguments = {"channels": 1, "image_size": 8, "width": 4, "embedding_size": 5}
    plain = Description("small_convnet", arguments, (1, 8, 8), (0.3,), (0.4,))
    save_checkpoint(place, model, plain)
    length = int.from_bytes(place.read_bytes()[:8], "little")
    note = {"n": "x" * (0x10280 - length - 12)}  # 12: the key and its escaped quotes
    save_checkpoint(place, model, replace(plain, recipe=note))
    assert place.read_bytes()[:2] == b"\x80\x02"
    loaded = load_checkpoint(place).classifier
    assert loaded is not None
    images = some_images(3)
    assert torch.equal(loaded(images), model(images))


def test_arguments_and_gates_that_cannot_be_read(stranger: Path, tmp_path: Path, capsys) -> None:
    convert = ["convert", str(stranger / "weights.pth"), "--arch", "torchvision:resnet18"]
    assert robustcl([*convert, "--out", str(tmp_path / "a.safetensors"), "--arguments", "{"]) == 2
    assert "not JSON" in capsys.readouterr().err
    run = ["run", str(stranger / "probe.safetensors"), "--data", "digits"]
    run += ["--out", str(tmp_path / "run"), "--require"]
    for gate in ("certified_accuracy>=0.5", "certified_accuracy@1/0>=0.5", "accuracy>=1"):
        assert certify([*run, gate]) == 2
        assert "error" in capsys.readouterr().err
