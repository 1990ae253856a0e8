"""The normalization of a converted encoder is stated, known, or assumed aloud."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from robustcl.cli.main import robustcl
from robustcl.core.errors import InputError
from robustcl.models.checkpoint import load_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import small_convnet
from robustcl.models.normalization import stated_normalization
from robustcl.models.weights.placing import timm_twins

ARGUMENTS = {"channels": 3, "image_size": 8, "width": 4, "embedding_size": 6}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def convert(
    place: Path, content: Any, *more: str, arch: str = "small_convnet", size: str = "8"
) -> tuple[int, Description | None]:
    torch.save(content, place / "weights.pth")
    words = ["convert", str(place / "weights.pth"), "--arch", arch, "--input-size", size]
    if arch == "small_convnet":
        words += ["--arguments", json.dumps(ARGUMENTS)]
    out = place / "out.safetensors"
    code = robustcl([*words, *more, "--out", str(out), "--overwrite"])
    return code, load_checkpoint(out).description if code == 0 else None


def weights(**more: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {**small_convnet(**ARGUMENTS).state_dict(), **more}


def test_nothing_known_is_assumed_aloud(tmp_path: Path, capsys) -> None:
    _, found = convert(tmp_path, weights())
    assert found is not None and found.normalization == "assumed"
    assert (found.mean, found.std) == ((0.0,), (1.0,))
    lines = [
        line for line in "".join(capsys.readouterr()).splitlines() if line.startswith("warning")
    ]
    assert len(lines) == 1 and "NONE is assumed (mean 0, std 1)" in lines[0]
    assert "--mean" in lines[0] and "--std" in lines[0]


@pytest.mark.parametrize(
    ("words", "mean", "std"),
    [
        (["--mean", ".1,.2,.3", "--std", "1/4,.5,.6"], (0.1, 0.2, 0.3), (0.25, 0.5, 0.6)),
        (["--mean", ".5", "--std", ".5"], (0.5,), (0.5,)),
        (["--mean", "0", "--std", "1"], (0.0,), (1.0,)),
        (["--mean", "5e-1", "--std", "2.5e-1"], (0.5,), (0.25,)),
        (["--mean", "none"], (0.0,), (1.0,)),
        (["--std", "ImageNet"], *IMAGENET),
        (["--mean", "imagenet", "--std", "imagenet"], *IMAGENET),
    ],
)
def test_what_is_stated_is_taken_and_nothing_warned(
    words: list[str], mean, std, tmp_path: Path, capsys
) -> None:
    _, found = convert(tmp_path, weights(), *words)
    assert found is not None and (found.mean, found.std) == (mean, std)
    assert found.normalization == "stated"
    assert "warning" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (".5", None, "--mean without --std"),
        (None, ".5", "--std without --mean"),
        (".1,.2", ".5", "2 numbers for images of 3 channels"),
        (".1,.2,.3", ".5,.5,.5,.5", "4 numbers"),
        (".5", "0", "not positive"),
        (".5", ".5,.5,-.5", "not positive"),
        (".5", "nan", "not"),
        ("inf", ".5", "not"),
        (".5", "", "no"),
        (".5,,.5", ".5", "no"),
        ("123.675,116.28,103.53", "58.395,57.12,57.375", "divide"),
        (".5", "58", "divide"),
        (".5", "1e2", "divide"),
        ("-1", "1", "below 0"),
        (".5,-.1,.5", ".5", "below 0"),
        ("imagenet", ".5", "stands for both"),
        ("imagenet", "none", "stands for both"),
        ("cifar10", None, ".2023"),
        ("cifar100", "cifar100", ".2023"),
        ("clip", None, "none of imagenet"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(mean, std, said: str) -> None:
    with pytest.raises(InputError) as caught:
        stated_normalization(mean, std, channels=3)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_word_for_three_channels_is_refused_for_one() -> None:
    with pytest.raises(InputError, match="for 3 channels, the images have 1"):
        stated_normalization("imagenet", None, channels=1)


@pytest.mark.parametrize(
    ("layer", "names"),
    [("", ("mean", "std")), ("normalize.", ("mean", "std")), ("", ("mu", "sigma"))],
)
def test_the_weight_file_s_own_is_taken(layer: str, names, tmp_path: Path, capsys) -> None:
    rows = [torch.tensor(row).view(1, 3, 1, 1) for row in IMAGENET]
    content = weights(**{layer + name: row for name, row in zip(names, rows, strict=True)})
    content = {f"module.{key}": value for key, value in content.items()}
    _, found = convert(tmp_path, {"state_dict": content})
    assert found is not None and found.mean == pytest.approx(IMAGENET[0])
    assert found.std == pytest.approx(IMAGENET[1])
    assert found.normalization.startswith("weight file")
    assert "warning" not in "".join(capsys.readouterr())
    _, found = convert(tmp_path, {"state_dict": content}, "--mean", "imagenet")
    assert found is not None and found.normalization == "stated"
    assert "warning" not in "".join(capsys.readouterr())
    _, found = convert(tmp_path, {"state_dict": content}, "--mean", "none")
    assert found is not None and found.mean == (0.0,)
    assert "the weight file itself states" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "more",
    [
        {"mean": torch.zeros(3), "std": torch.zeros(3)},
        {"mean": torch.full((3,), 120.0), "std": torch.full((3,), 60.0)},
        {"mean": torch.zeros(3, dtype=torch.int64), "std": torch.ones(3, dtype=torch.int64)},
        {"mean": torch.zeros(5), "std": torch.ones(5)},
        {"mean": torch.full((3,), torch.nan), "std": torch.ones(3)},
        {"mean": torch.zeros(2), "std": torch.ones(2)},
        {"mean": torch.zeros(3)},
        {"std": torch.ones(3)},
        {"0.gate.mean": torch.zeros(3), "0.gate.std": torch.ones(3)},
    ],
)
def test_tensors_that_are_no_normalization_are_refused(more, tmp_path: Path, capsys) -> None:
    assert convert(tmp_path, weights(**more))[0] == 2
    assert "".join(capsys.readouterr()).count("\n") == 1


def timm_weights(name: str, **arguments: Any) -> dict[str, Tensor]:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    return timm.create_model(name, pretrained=False, **arguments).state_dict()


@pytest.mark.parametrize(
    ("name", "mean", "warned"),
    [
        ("vit_tiny_patch16_224", (0.5, 0.5, 0.5), False),
        ("resnet18", IMAGENET[0], False),
        ("vit_small_patch16_224", (0.5, 0.5, 0.5), True),
        ("vit_small_patch16_224.dino", IMAGENET[0], False),
    ],
)
def test_timm_s_configuration_is_taken(
    name: str, mean, warned: bool, tmp_path: Path, capsys
) -> None:
    content = timm_weights(name)
    _, found = convert(tmp_path, content, arch=f"timm:{name}", size="224")
    assert found is not None and found.mean == mean
    assert found.normalization.startswith(f"timm's configuration of {name}")
    said = "".join(capsys.readouterr())
    assert f"({found.normalization})" in said
    assert ("differ in their normalization" in said) == warned == ("warning" in said)


def test_timm_knows_nothing_of_one_channel_and_of_other_tags(tmp_path: Path, capsys) -> None:
    content = timm_weights("resnet18", in_chans=1)
    words = ["--arguments", '{"in_chans": 1}']
    _, found = convert(tmp_path, content, *words, arch="timm:resnet18", size="1x32x32")
    assert found is not None and found.normalization == "assumed"
    capsys.readouterr()
    assert convert(tmp_path, content, arch="timm:resnet18.nothing")[0] == 2
    assert "has no weights 'nothing'" in "".join(capsys.readouterr())


def test_timm_networks_of_the_same_shapes_are_pointed_out() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        for name, other in (("mixnet_s", "tf_mixnet_s"), ("tf_mixnet_s", "mixnet_s")):
            assert f"'{other}' has the same tensors" in timm_twins(f"timm:{name}")[0]
            shapes = [
                {k: v.shape for k, v in timm.create_model(n).state_dict().items()}
                for n in (name, other)
            ]
            assert shapes[0] == shapes[1]
    assert timm_twins("timm:resnet18") == timm_twins("torchvision:resnet18") == ()


def test_torchvision_s_own_files_are_known_by_their_hash(tmp_path: Path, monkeypatch) -> None:
    from torchvision import models

    content = models.get_model("resnet18").state_dict()
    torch.save(content, tmp_path / "weights.pth")
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    preset = SimpleNamespace(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    entries = [SimpleNamespace(url=f"somewhere/resnet18-{key}.pth", transforms=lambda: preset)
               for key in ("00000000", digest[:8])]  # fmt: skip
    monkeypatch.setattr(models, "get_model_weights", lambda _: entries[:1])
    _, found = convert(tmp_path, content, arch="torchvision:resnet18", size="32")
    assert found is not None and found.normalization == "assumed"
    monkeypatch.setattr(models, "get_model_weights", lambda _: entries)
    _, found = convert(tmp_path, content, arch="torchvision:resnet18", size="32")
    assert found is not None and found.mean == (0.1, 0.2, 0.3)
    assert found.normalization.startswith("torchvision's configuration")


def test_every_release_of_torchvision_is_named_by_a_hash() -> None:
    from torchvision import models

    for name in models.list_models(models):
        for entry in models.get_model_weights(name):
            digits = entry.url.rpartition("-")[2].removesuffix(".pth")
            assert len(digits) >= 8 and int(digits, 16) >= 0
            assert len(entry.transforms().mean) == 3
