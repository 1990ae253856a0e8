"""Flags on the way: manifest, stderr, JSON, report, resumed runs, both commands."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import robustcl.evaluation.check_model as room
from robustcl.cli.main import certify, robustcl
from robustcl.core.classifier import Classifier, Encoder
from robustcl.data import load_data
from robustcl.models.checkpoint import save_checkpoint
from robustcl.models.description import Description
from robustcl.models.heads import LinearHead
from robustcl.records.arrays import load_arrays
from robustcl.records.reading import load_run
from tests.defended_networks import defended_convnet

FACTORY = "tests.defended_networks:defended_convnet"


def stored(folder: Path, *, flag: str, count: int) -> tuple[Path, Path]:
    """A checkpoint of a random network behind a defense, and images with its own labels."""
    torch.manual_seed(0)
    encoder = Encoder(defended_convnet(flag=flag), image_shape=(1, 8, 8))
    model = Classifier(encoder, LinearHead(torch.randn(3, 5), torch.zeros(3))).eval()
    description = Description(FACTORY, {"flag": flag}, (1, 8, 8), embedding_size=5)
    save_checkpoint(folder / "model.safetensors", model, description)
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, size=(count, 8, 8, 1), dtype=np.uint8)
    points = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    np.savez(folder / "data.npz", images=images, labels=model(points).argmax(1).numpy())
    return folder / "model.safetensors", folder / "data.npz"


def arguments(place: Path, *, flag: str, count: int = 40) -> list[str]:
    checkpoint, data = stored(place, flag=flag, count=count)
    first = [str(checkpoint), "--arch", FACTORY, "--data", f"npz:{data}", "--quiet"]
    first += ["--classes", "positions"]  # neither side names its classes, and some may be absent
    return [*first, "--eps", "0.3", "--batch-size", "8", "--out", str(place / "run")]


def test_the_report_links_every_flagged_image_that_it_shows(tmp_path: Path, capsys) -> None:
    given = arguments(tmp_path, flag="quantized_input", count=200)
    assert robustcl(["attack", *given, "--protocol", "fast", "--json"]) == 0
    captured = capsys.readouterr()
    flags = load_run(tmp_path / "run").manifest["flags"]
    assert {"zero_gradient", "quantized_input"} <= {flag["name"] for flag in flags}
    assert json.loads(captured.out)["flags"] == flags
    for flag in flags:
        line = re.search(rf"^flag {flag['name']}: .*$", captured.err, re.MULTILINE)
        assert line is not None and flag["sentence"] in line[0]
        assert f"Images {flag['images'][0]}, " in line[0]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    links = set(re.findall(r'href="#(image-\d+)"', page))
    anchors = re.findall(r'id="(image-\d+)"', page)
    assert len(anchors) == len(set(anchors)) >= room._SHOWN
    assert links == set(anchors)
    assert not re.search(r"https?:|<script|<link", page)
    before = page
    assert robustcl(["report", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "report.html").read_text(encoding="utf-8") == before


def test_indices_are_those_of_the_data_set(tmp_path: Path, monkeypatch) -> None:
    def flagged(classifier, images, threat, *, seeds):
        bright = torch.nonzero(images[:, 0, 0, 0] > 0.5)[:, 0].tolist()
        return (room.Flag("zero_gradient", "Bright.", tuple(bright), 11),)

    monkeypatch.setattr(room, "model_flags", flagged)
    monkeypatch.setattr(room, "_CHECKED", 8)
    given = arguments(tmp_path, flag="", count=100)
    assert robustcl(["attack", *given, "--protocol", "fast"]) == 0
    run, kept = load_run(tmp_path / "run"), load_arrays(tmp_path / "run", "flagged")
    pixels = np.asarray(load_data(f"npz:{tmp_path / 'data.npz'}", split="test").images)
    (flag,) = run.manifest["flags"]
    assert 0 < len(flag["images"]) <= room._CHECKED < max(flag["images"])  # spread over the data
    assert all(pixels[index, 0, 0, 0] > 127 for index in flag["images"])
    assert kept["index"].tolist() == flag["images"][: room._SHOWN]
    for index, clean in zip(kept["index"], kept["clean"], strict=True):
        assert np.array_equal(np.rint(255 * clean[0]), pixels[index, :, :, 0])


def test_a_randomized_model_is_attacked_with_its_flag(tmp_path: Path, capsys) -> None:
    given = arguments(tmp_path, flag="randomized")
    assert robustcl(["attack", *given, "--protocol", "fast"]) == 0
    assert "flag randomized: The model is randomized" in capsys.readouterr().err
    run = load_run(tmp_path / "run")
    assert run.manifest["complete"] and len(run.attacks) == len(run.clean) > 4
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<strong>randomized</strong>: The model is randomized" in page
    assert "attacks.expectation" in page


def test_certify_run_resumes_with_the_flags_it_had(tmp_path: Path, monkeypatch, capsys) -> None:
    given = [*arguments(tmp_path, flag="quantized_input"), "--methods", "none"]
    assert certify(["run", *given]) == 0
    flags = load_run(tmp_path / "run").manifest["flags"]
    assert flags
    capsys.readouterr()

    def never(*_, **__):
        raise AssertionError("checked twice")

    monkeypatch.setattr(room, "model_flags", never)
    assert certify(["run", *given, "--resume"]) == 0
    assert load_run(tmp_path / "run").manifest["flags"] == flags
    assert f"flag {flags[0]['name']}: " in capsys.readouterr().err


def test_ordinary_models_and_runs_without_attacks_have_none(tmp_path: Path, capsys) -> None:
    given = arguments(tmp_path, flag="")
    assert certify(["run", *given, "--methods", "product"]) == 0
    assert load_run(tmp_path / "run").manifest["flags"] == []
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Flagged images" not in page and "image-" not in page.split("</style>")[1]
    given[-1] = str(tmp_path / "proofs")
    assert certify(["run", *given, "--methods", "product", "--attack", "none"]) == 0
    assert "flags" not in load_run(tmp_path / "proofs").manifest
    assert "flag " not in capsys.readouterr().err


@pytest.mark.parametrize("limit", [1, 3])
def test_a_full_memory_means_fewer_images(tmp_path: Path, monkeypatch, limit: int) -> None:
    sizes: list[int] = []

    def hungry(classifier, images, threat, *, seeds):
        sizes.append(len(images))
        if len(images) > limit:
            raise torch.OutOfMemoryError("out of memory")
        return (room.Flag("softmax_scores", "Seen.", (), 10),)

    monkeypatch.setattr(room, "model_flags", hungry)
    given = arguments(tmp_path, flag="")
    assert certify(["run", *given, "--methods", "none"]) == 0
    assert sizes[-1] <= limit < sizes[0]
    assert len(load_run(tmp_path / "run").manifest["flags"]) == 1
