"""Weight files of other networks are refused by convert; right ones of many kinds are taken."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from robustcl.cli.main import robustcl
from robustcl.core.classifier import Encoder
from robustcl.models.architectures import build_backbone
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import cifar_resnet18

ARGUMENTS = {"channels": 3, "image_size": 8, "width": 4, "embedding_size": 6}
MODULE = "tests.models.test_weight_files"


class Gated(nn.Module):
    """A network with BatchNorm, an index buffer, and a gate within, called head on request."""

    order: Tensor

    def __init__(self, *, depth: int = 2, width: int = 4, gate: str = "", stem: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, stem, padding=stem // 2, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        if gate:
            self.layers[0].add_module(gate, nn.Conv2d(width, width, 1))
        self.gate = gate
        self.register_buffer("order", torch.arange(width).flip(0))

    def forward(self, images: Tensor) -> Tensor:
        points = self.bn(self.stem(images))[:, self.order]
        for layer in self.layers:
            points = layer(points).relu()
        if self.gate:
            points = points * self.layers[0].get_submodule(self.gate)(points).sigmoid()
        return points.mean((2, 3))


def gated(**arguments: Any) -> Gated:
    torch.manual_seed(0)
    network = Gated(**arguments)
    network.train()(torch.rand(8, 3, 8, 8))
    return network.eval()


def state(**arguments: Any) -> dict[str, Tensor]:
    return dict(gated(**arguments).state_dict())


def changed(name: str, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    weights = state()
    return {**weights, name: change(weights[name])}


def converted(place: Path, *more: str, arch: str = f"{MODULE}:gated") -> int:
    words = ["convert", str(place), "--arch", arch, "--input-size", "8", "--mean", "none"]
    return robustcl([*words, *more, "--out", str(place.with_name("out.safetensors"))])


def with_value(number: float) -> Callable[[Tensor], Tensor]:
    def change(value: Tensor) -> Tensor:
        spoiled = value.clone()
        spoiled.view(-1)[-1] = number
        return spoiled

    return change


def typed(kind: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda value: value.to(kind)


def wrong_states() -> dict[str, dict[str, Tensor]]:
    sound = state()
    cases: dict[str, dict[str, Tensor]] = {
        "deeper": state(depth=3),
        "shallower": state(depth=1),
        "wider": state(width=6),
        "narrower": state(width=2),
        "stem of 5": state(stem=5),
        "stem of 1": state(stem=1),
        "gate": state(gate="gate"),
        "gate called head": state(gate="head"),
        "gate called fc": state(gate="fc"),
        "gate called projector": state(gate="projector"),
        "teacher and student": {
            f"{prefix}{k}": v + number if v.is_floating_point() else v
            for number, prefix in enumerate(("net.", "model."))
            for k, v in sound.items()
        },
        "other names": {f"block_{k}": v for k, v in sound.items()},
        "one tensor less": {k: v for k, v in sound.items() if k != "layers.1.bias"},
        "no running mean": {k: v for k, v in sound.items() if k != "bn.running_mean"},
        "no index": {k: v for k, v in sound.items() if k != "order"},
        "one tensor more": {**sound, "layers.1.gamma": torch.ones(4)},
        "a statistic more": {**sound, "layers.0.bn.running_mean": torch.ones(4)},
        "only a head": {"fc.weight": torch.ones(2, 4)},
        "rounded": changed("stem.weight", lambda v: v.double() + 1e-12),
        "beyond float32": changed("stem.weight", lambda v: v.double() * 1e300),
        "negative variance": changed("bn.running_var", with_value(-1e-3)),
        "shape to broadcast": changed("bn.weight", lambda v: v[:1]),
        "scalar to broadcast": changed("bn.weight", lambda v: v[0]),
        "row to broadcast": changed("layers.0.bias", lambda v: v[None]),
        "kernel to broadcast": changed("layers.0.weight", lambda v: v[:, :, :1, :1]),
        "transposed": changed("stem.weight", lambda v: v.transpose(0, 1)),
        "sparse": changed("layers.0.bias", lambda v: v.to_sparse()),
        "counter in float": changed("bn.num_batches_tracked", typed(torch.float32)),
        "counter with an axis": changed("bn.num_batches_tracked", lambda v: v[None]),
        "index in float": changed("order", typed(torch.float32)),
        "index in int32": changed("order", typed(torch.int32)),
        "index in bool": changed("order", typed(torch.bool)),
    }
    for name in ("stem.weight", "bn.weight", "bn.running_var", "layers.1.bias"):
        for kind in (torch.int64, torch.int8, torch.bool, torch.complex64):
            cases[f"{name} {kind}"] = changed(name, typed(kind))
        for number in (torch.nan, torch.inf, -torch.inf):
            cases[f"{name} {number}"] = changed(name, with_value(number))
    for kind in (torch.float16, torch.bfloat16, torch.float8_e5m2, torch.float64):
        cases[f"infinite {kind}"] = changed(
            "bn.bias", lambda v, k=kind: torch.full_like(v, torch.inf).to(k)
        )
    return cases


@pytest.mark.parametrize("case", wrong_states())
def test_wrong_weights_are_refused_in_one_line(case: str, tmp_path: Path, capsys) -> None:
    torch.save(wrong_states()[case], tmp_path / "weights.pth")
    assert converted(tmp_path / "weights.pth") == 2
    said = "".join(capsys.readouterr())
    assert said.startswith("error: ") and said.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_wrong_kinds_are_refused_by_allow_partial_too(tmp_path: Path) -> None:
    for case in ("stem.weight torch.int64", "bn.weight nan", "negative variance", "index in int32"):
        torch.save(wrong_states()[case], tmp_path / "weights.pth")
        assert converted(tmp_path / "weights.pth", "--allow-partial") == 2


def right_files() -> dict[str, Any]:
    sound = state()
    double = {k: v.double() if v.is_floating_point() else v for k, v in sound.items()}
    head = {"fc.weight": torch.ones(2, 4), "fc.bias": torch.ones(2)}

    def under(prefix: str, weights: Mapping[str, Tensor] = sound) -> dict[str, Tensor]:
        return {prefix + key: value for key, value in weights.items()}

    return {
        "plain": sound,
        **{p: under(p) for p in ("module.", "backbone.", "encoder.", "_orig_mod.", "model.", "f.")},
        "module.encoder_q.": under("module.encoder_q."),
        "module._orig_mod.backbone.": under("module._orig_mod.backbone."),
        **{key: {key: sound} for key in ("state_dict", "model", "model_state_dict", "net")},
        "state_dict beside others": {"epoch": 3, "state_dict": under("module."), "best": 0.5},
        "nested": {"state_dict": {"model": sound}},
        "head": {**sound, **head},
        "heads below a prefix": {**under("backbone."), **under("backbone.", head)},
        "head beside a prefix": {**under("backbone."), "classifier.weight": torch.ones(2, 4)},
        "projector": {**under("encoder."), "projector.0.weight": torch.ones(4, 4)},
        "queue and key encoder": {
            **under("module.encoder_q."),
            **under("module.encoder_k."),
            "module.queue": torch.ones(4, 9),
            "module.queue_ptr": torch.zeros(1, dtype=torch.int64),
        },
        "momentum": {**under("backbone."), **under("momentum_backbone.")},
        "no counter": {k: v for k, v in sound.items() if "tracked" not in k},
        "parameters": {
            k: nn.Parameter(v) if v.is_floating_point() else v for k, v in sound.items()
        },
        "float64 without rounding": double,
        "not contiguous": {
            k: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v
            for k, v in sound.items()
        },
    }


@pytest.mark.parametrize("case", right_files())
def test_right_weights_are_taken_as_they_are(case: str, tmp_path: Path, capsys) -> None:
    torch.save(right_files()[case], tmp_path / "weights.pth")
    assert converted(tmp_path / "weights.pth") == 0
    loaded = load_checkpoint(tmp_path / "out.safetensors", arch=f"{MODULE}:gated")
    assert loaded.notes == ()
    images = torch.rand(3, 3, 8, 8)
    assert torch.equal(loaded.encoder(images), gated()(images))
    aside = [x for x in "".join(capsys.readouterr()).splitlines() if x.startswith("left aside")]
    dropped = sum(int(count) for count in re.findall(r"\((\d+)\)", " ".join(aside)))
    extra = {"head": 2, "heads below a prefix": 2, "head beside a prefix": 1, "projector": 1}
    extra |= {"queue and key encoder": len(state()) + 2, "momentum": len(state())}
    assert dropped == extra.get(case, 0)


def test_safetensors_and_old_pickles_are_read(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "a.safetensors")
    torch.save(state(), tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "b.pth"):
        assert converted(tmp_path / name, "--overwrite") == 0


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_narrower_types_are_converted_exactly_and_said(kind, tmp_path: Path, capsys) -> None:
    weights = {
        k: v.clamp(-9, 9).to(kind) if v.is_floating_point() else v for k, v in state().items()
    }
    torch.save(weights, tmp_path / "weights.pth")
    assert converted(tmp_path / "weights.pth") == 0
    name = str(kind).removeprefix("torch.")
    assert f"from {name} to float32, exactly" in "".join(capsys.readouterr())
    own = load_checkpoint(tmp_path / "out.safetensors", arch=f"{MODULE}:gated").encoder.backbone
    for key, value in own.state_dict().items():
        assert torch.equal(value, weights[key].to(value.dtype))


def test_a_flipped_bit_in_an_archive_is_found(tmp_path: Path, capsys) -> None:
    # torch itself does not compare the checksums in the archives that it writes.
    place = tmp_path / "weights.pth"
    torch.save(state(), place)
    sound = place.read_bytes()
    raw = state()["stem.weight"].numpy().tobytes()
    where = sound.index(raw)
    for byte in (where, where + len(raw) // 2, where + len(raw) - 1):
        spoiled = bytearray(sound)
        spoiled[byte] ^= 1
        place.write_bytes(spoiled)
        torch.load(place, weights_only=True)
        assert converted(place) == 2
        assert "checksum" in "".join(capsys.readouterr())
    place.write_bytes(sound[: len(sound) // 2])
    assert converted(place) == 2


def test_another_network_of_the_same_keys_is_refused_by_its_shapes(tmp_path: Path) -> None:
    import torchvision

    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "weights.pth")
    stem = ["--arguments", '{"stem_padding": 1}']
    for arch, more in (("cifar_resnet18", stem), ("torchvision:resnet34", [])):
        assert converted(tmp_path / "weights.pth", *more, arch=arch) == 2
    torch.save(cifar_resnet18().state_dict(), tmp_path / "weights.pth")
    assert converted(tmp_path / "weights.pth", arch="torchvision:resnet18") == 2


def test_the_two_stems_are_two_functions_and_the_right_one_is_asked_for(
    tmp_path: Path, capsys
) -> None:
    torch.manual_seed(0)
    theirs = cifar_resnet18(stem_padding=2).eval()
    named = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({**named, "classifier.weight": torch.ones(10, 512)}, tmp_path / "weights.pth")
    assert converted(tmp_path / "weights.pth", arch="cifar_resnet18") == 2
    said = "".join(capsys.readouterr())
    assert '{"stem_padding": 2}' in said and '{"stem_padding": 1}' in said
    images = torch.rand(2, 3, 8, 8)
    for padding in (1, 2):
        stated = ["--arguments", f'{{"stem_padding": {padding}}}', "--overwrite"]
        assert converted(tmp_path / "weights.pth", *stated, arch="cifar_resnet18") == 0
        own = load_checkpoint(tmp_path / "out.safetensors").encoder
        assert own.backbone.get_submodule("conv1").padding == (padding, padding)
        assert torch.allclose(own(images), theirs(images)) == (padding == 2)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    capsys.readouterr()
    assert converted(tmp_path / "weights.pth", "--overwrite", arch="cifar_resnet18") == 0
    assert "warning: the padding of the stem cannot be seen" in "".join(capsys.readouterr())


@pytest.mark.parametrize("value", ['{"stem_padding": 3}', '{"stem_padding": true}',
                                   '{"max_pool": 1}', '{"stem_padding": "2"}'])  # fmt: skip
def test_other_stems_are_refused(value: str, tmp_path: Path) -> None:
    torch.save(cifar_resnet18().state_dict(), tmp_path / "weights.pth")
    assert converted(tmp_path / "weights.pth", "--arguments", value, arch="cifar_resnet18") == 2


def test_max_pooling_is_put_back_on_request() -> None:
    torch.manual_seed(0)
    plain = cifar_resnet18().eval()
    pooled = cifar_resnet18(max_pool=True).eval()
    pooled.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 16, 16)
    assert not torch.allclose(plain(images), pooled(images))


def test_a_checkpoint_is_converted_as_the_architecture_that_it_names(
    tmp_path: Path, capsys
) -> None:
    network = build_backbone("small_convnet", ARGUMENTS)
    encoder = Encoder(network, image_shape=(3, 8, 8), mean=(0.1, 0.2, 0.3), std=(0.5,))
    place = tmp_path / "own.safetensors"
    plain = Description("small_convnet", ARGUMENTS, (3, 8, 8), (0.1, 0.2, 0.3), (0.5,), 6)
    save_checkpoint(place, encoder, plain)
    words = ["convert", str(place), "--arch", "small_convnet", "--input-size", "8", "--out"]
    words += [str(tmp_path / "out.safetensors"), "--arguments"]
    given = str(ARGUMENTS).replace("'", '"')
    assert robustcl([*words, given]) == 0
    again = load_checkpoint(tmp_path / "out.safetensors")
    assert again.description.normalization.startswith("weight file")
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(again.encoder(images), encoder(images))
    capsys.readouterr()
    assert robustcl([*words, given.replace('"width": 4', '"width": 5'), "--overwrite"]) == 2
    assert "is a checkpoint of 'small_convnet'" in "".join(capsys.readouterr())
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    assert robustcl([*words, given, "--overwrite"]) == 2
    assert "damaged" in "".join(capsys.readouterr())


def test_things_that_are_no_weights(tmp_path: Path, capsys) -> None:
    place = tmp_path / "weights.pth"
    other = changed("stem.weight", lambda v: v + 1)
    cases = (3, "text", {"state_dict": [state(), other]}, {"a": np.float64(1).item()},
             {"student": state(), "teacher": other}, {}, torch.ones(3))  # fmt: skip
    for content in cases:
        torch.save(content, place)
        assert converted(place) == 2
        assert "".join(capsys.readouterr()).count("\n") == 1
    for content in (b"", b"\x00" * 100, b"PK\x03\x04rest", b"text"):
        for name in ("weights.pth", "weights.safetensors"):
            (tmp_path / name).write_bytes(content)
            assert converted(tmp_path / name) == 2
            assert "".join(capsys.readouterr()).count("\n") == 1
    assert converted(tmp_path) == 2
