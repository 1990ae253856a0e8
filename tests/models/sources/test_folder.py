"""Local folders of transformers, timm and open_clip give what their libraries compute."""

import json
from pathlib import Path

import pytest
import torch

from robustcl.core.errors import CheckpointError, InputError
from robustcl.data.transform import ImageTransform
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.sources.opening import open_model
from robustcl.models.sources.request import ModelRequest
from tests.models.sources.hub_folders import (
    SIDE,
    open_clip_folder,
    processor,
    timm_folder,
    transformers_folder,
)

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
CLASSIFIERS = [
    "ViTForImageClassification", "Dinov2ForImageClassification", "ResNetForImageClassification",
    "ConvNextForImageClassification",
]  # fmt: skip
ENCODERS = [
    "ViTModel", "Dinov2Model", "ResNetModel", "ConvNextModel", "CLIPModel", "SiglipModel",
    "CLIPVisionModel", "CLIPVisionModelWithProjection",
]  # fmt: skip


def images(side: int = SIDE) -> torch.Tensor:
    return torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))


def normalized(points: torch.Tensor) -> torch.Tensor:
    return (points - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


@pytest.mark.parametrize("name", [*CLASSIFIERS, *ENCODERS])
def test_transformers(name: str, tmp_path: Path) -> None:
    call = transformers_folder(name, tmp_path / "model")
    loaded = open_model(tmp_path / "model")
    points, wanted = images(), call(normalized(images()))
    assert (loaded.classifier is not None) == (name in CLASSIFIERS)
    with torch.no_grad():
        found = (loaded.classifier or loaded.encoder)(points)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    assert loaded.transform == ImageTransform(40, SIDE, "bicubic")
    assert loaded.encoder.image_shape == (3, SIDE, SIDE)
    assert any("preprocessor_config.json" in fact for fact in loaded.facts)
    place = tmp_path / "saved.safetensors"
    save_checkpoint(place, loaded.classifier or loaded.encoder, loaded.description)
    again = load_checkpoint(place)
    with torch.no_grad():
        assert torch.equal((again.classifier or again.encoder)(points), found)


def test_the_last_layer_of_a_classifier_is_its_head(tmp_path: Path) -> None:
    transformers_folder("ViTForImageClassification", tmp_path)
    loaded = open_model(tmp_path)
    assert loaded.classifier is not None and not loaded.classifier.normalizes
    assert loaded.description.head_layer == "model.classifier"
    assert loaded.description.embedding_size == 32


def test_names_of_classes_are_those_of_the_configuration(tmp_path: Path) -> None:
    names = ["ant", "bee", "cow", "dog", "elk"]
    transformers_folder("ViTForImageClassification", tmp_path, id2label=dict(enumerate(names)))
    loaded = open_model(tmp_path)
    assert loaded.classifier is not None and loaded.classifier.class_names == tuple(names)
    plain = tmp_path / "plain"
    transformers_folder("ViTForImageClassification", plain)
    found = open_model(plain).classifier
    assert found is not None and found.class_names == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize("classes", [5, 0])
def test_timm_s_own_format(classes: int, tmp_path: Path) -> None:
    call = timm_folder("resnet10t", tmp_path, classes=classes)
    loaded = open_model(tmp_path)
    assert (loaded.classifier is not None) == bool(classes)
    mean, std = loaded.encoder.mean, loaded.encoder.std
    shape = loaded.encoder.image_shape
    points = images(shape[1])
    with torch.no_grad():
        found = (loaded.classifier or loaded.encoder)(points)
    wanted = call((points - mean) / std)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert loaded.transform is not None and loaded.transform.crop == shape[1]


def test_open_clip(tmp_path: Path) -> None:
    model = open_clip_folder(tmp_path)
    loaded = open_model(tmp_path)
    with torch.no_grad():
        wanted = model.encode_image(normalized(images()))
        found = loaded.encoder(images())
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert loaded.transform == ImageTransform(SIDE, SIDE, "bicubic")
    place = tmp_path / "saved.safetensors"
    save_checkpoint(place, loaded.encoder, loaded.description)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(place).encoder(images()), found)


def test_code_of_a_folder_is_never_run(tmp_path: Path) -> None:
    transformers_folder("ViTForImageClassification", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match=r"auto_map.*FILE\.py:factory"):
        open_model(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_part_of_a_model_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    transformers_folder("ViTForImageClassification", tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    del weights["classifier.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors \(classifier\.weight\)"):
        open_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["BertModel"]}, "not supported"),
        ({"architectures": []}, "names no architecture"),
        ({"quantization_config": {"bits": 8}}, "quantized"),
        ({"hidden_size": 64}, "in another shape|lacks|cannot be loaded"),
    ],
)
def test_other_folders_are_refused(change: dict, words: str, tmp_path: Path) -> None:
    transformers_folder("ViTForImageClassification", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((CheckpointError, InputError), match=words) as caught:
        open_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_and_an_unknown_input_are_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither config\.json"):
        open_model(tmp_path)
    transformers_folder("ViTModel", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="state --input-size"):
        open_model(tmp_path)
    asked = ModelRequest(image_shape=(3, SIDE, SIDE), normalization=((0.0,), (1.0,)))
    assert open_model(tmp_path, asked).description.normalization == "stated"


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({}, ImageTransform(40, 32, "bicubic")),
        ({"do_center_crop": False, "size": {"height": 32, "width": 32}, "resample": 2},
         ImageTransform(32, 32, "bilinear", squash=True)),
        ({"crop_size": None, "size": {"shortest_edge": 32}, "crop_pct": 0.875, "resample": 3},
         None),
    ],
)  # fmt: skip
def test_preprocessing_is_that_of_the_file(content: dict, wanted, tmp_path: Path) -> None:
    transformers_folder("ViTModel", tmp_path)
    processor(tmp_path, **content)
    if wanted is not None:
        assert open_model(tmp_path).transform == wanted
        return
    file = tmp_path / "preprocessor_config.json"
    table = {k: v for k, v in json.loads(file.read_text()).items() if k != "crop_size"}
    file.write_text(json.dumps(table))
    assert open_model(tmp_path).transform == ImageTransform(36, 32, "bicubic")


def test_what_a_folder_states_is_overridden_by_options(tmp_path: Path) -> None:
    transformers_folder("ViTModel", tmp_path)
    asked = ModelRequest(normalization=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    assert open_model(tmp_path, asked).description.mean == (0.1, 0.2, 0.3)
    with pytest.raises(InputError, match="leave out --arch"):
        open_model(tmp_path, ModelRequest(arch="torchvision:resnet18"))
