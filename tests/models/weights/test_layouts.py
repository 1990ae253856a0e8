"""Files of frameworks give the function that they were saved from, or ask what cannot be seen."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustcl.core.errors import CheckpointError, InputError
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.sources.opening import open_model
from robustcl.models.sources.request import ModelRequest
from robustcl.models.weights.known_torchvision import shapes_index
from robustcl.models.weights.recognition import _INDEX
from tests.models.weights import layouts
from tests.models.weights.layouts import LAYOUTS


def saved(content: object, folder: Path, name: str = "weights.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_gives_the_function_it_was_saved_from(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]()
    place = saved(layout.content, tmp_path)
    request = ModelRequest(
        image_shape=(3, layout.side, layout.side), normalization=((0.0,), (1.0,)), **layout.options
    )
    loaded = open_model(place, request)
    images = torch.rand(3, 3, layout.side, layout.side, generator=torch.Generator().manual_seed(1))
    model = loaded.classifier if layout.scores else loaded.encoder
    assert model is not None, "the classification layer was not found"
    with torch.no_grad():
        found, wanted = model(images), layout.function(images)
    scale = float(wanted.abs().max())
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5 * scale)
    assert bool((wanted[0] - wanted[1]).abs().max() > 1e-7 * scale)
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, model, loaded.description)
    second = load_checkpoint(again)
    with torch.no_grad():
        assert torch.equal((second.classifier if layout.scores else second.encoder)(images), found)  # pyright: ignore[reportOptionalCall]


ASKED = {
    "DINO": (layouts.dino("student"), "network"),
    "model_ema": (layouts.ema("model_ema"), "network"),
    "list of states": (layouts.list_of_states, "network"),
    "Sequential": (layouts.sequential, "arch"),
    "solo-learn": (layouts.solo_learn, "arch"),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_cannot_be_seen_is_asked_for(name: str, tmp_path: Path) -> None:
    build, option = ASKED[name]
    layout = build()
    place = saved(layout.content, tmp_path)
    given = {key: value for key, value in layout.options.items() if key != option}
    if option == "arch":
        given.pop("arguments", None)
    words = {"network": "--network", "arch": "--arch"}[option]
    with pytest.raises(CheckpointError, match=words) as caught:
        open_model(place, ModelRequest(image_shape=(3, layout.side, layout.side), **given))
    assert "\n" not in str(caught.value)


def wrong(build: layouts.Callable, **options: object) -> tuple:
    return build, options


WRONG = {
    "deeper": wrong(layouts.data_parallel, arch="torchvision:resnet34"),
    "shallower": wrong(layouts.whole("resnet34"), arch="torchvision:resnet18"),
    "bottlenecks": wrong(layouts.data_parallel, arch="torchvision:resnet50"),
    "wider": wrong(layouts.whole("resnet50"), arch="torchvision:wide_resnet50_2"),
    "grouped": wrong(layouts.whole("resnet50"), arch="torchvision:resnext50_32x4d"),
    "another stem": wrong(layouts.simclr_module, arch="cifar_resnet18",
                          arguments={"stem_padding": 1}),
    "the large stem": wrong(layouts.solo_learn, arch="torchvision:resnet18"),
    "no ReLU after the stem": wrong(layouts.lightly_generator, arch="cifar_resnet", arguments={
        "blocks": [2, 2, 2, 2], "width": 64, "shortcut": "convolution"}),
    "pooling": wrong(layouts.simclr_numbered, arch="cifar_resnet18",
                     arguments={"stem_padding": 1, "max_pool": True}),
    "option B for A": wrong(layouts.akamaster(20, layouts.Kuangliu), arch="cifar_resnet"),
    "another depth of CIFAR": wrong(layouts.akamaster(32, layouts.OptionA), arch="cifar_resnet"),
    "another width of CIFAR": wrong(layouts.kuangliu, arch="cifar_resnet", arguments={
        "blocks": [2, 2, 2, 2], "width": 64, "shortcut": "convolution"}),
    "another stride": wrong(layouts.sequential, arch="stack:relu,stride=1,padding=1"),
    "another kind": wrong(layouts.whole("vgg11_bn"), arch="torchvision:vgg11"),
    "a transformer": wrong(layouts.whole("vit_b_32", 224), arch="torchvision:vit_b_16"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_pairings_are_refused(name: str, tmp_path: Path) -> None:
    build, options = WRONG[name]
    layout = build()
    place = saved(layout.content, tmp_path)
    request = ModelRequest(image_shape=(3, layout.side, layout.side), **options)
    with pytest.raises((CheckpointError, InputError)) as caught:
        open_model(place, request)
    assert "\n" not in str(caught.value)


def test_the_activation_of_a_stack_is_stated_and_kept(tmp_path: Path) -> None:
    layout = layouts.sequential()
    place = saved(layout.content, tmp_path)
    images = torch.rand(2, 3, 32, 32)
    found = {}
    for name in ("relu", "tanh"):
        request = ModelRequest(arch=f"stack:{name},stride=2,padding=1")
        model = open_model(place, request).classifier
        assert model is not None
        found[name] = model(images)
    assert not torch.allclose(found["relu"], found["tanh"])
    with pytest.raises(CheckpointError, match="activations relu"):
        open_model(place, ModelRequest(arch="stack:swish,stride=2,padding=1"))
    with pytest.raises(CheckpointError, match=r"stride=2,padding=1 for 32x32 images"):
        open_model(place, ModelRequest(arch="stack:relu"))


def test_layers_whose_activation_is_called_in_code_are_refused(tmp_path: Path) -> None:
    # The keys of a list of layers follow each other; its activation is in no place of its own.
    layers = nn.ModuleList([nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 3)])
    for prefix in ("", "layers."):
        content = {prefix + key: value for key, value in layers.state_dict().items()}
        with pytest.raises(CheckpointError, match=r"without a place for an activation.*factory"):
            open_model(saved(content, tmp_path), ModelRequest(arch="stack:relu"))


def test_one_score_is_no_classifier(tmp_path: Path) -> None:
    place = saved(
        nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 1)).state_dict(), tmp_path
    )
    with pytest.raises(InputError, match="one score for all classes"):
        open_model(place, ModelRequest(arch="stack:relu"))


def test_pooling_and_batch_norm_in_a_stack(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = layouts.settled(nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(6, 8, 3),
        nn.ReLU(), nn.MaxPool2d(2, 2), nn.Flatten(), nn.Linear(200, 12), nn.ReLU(),
        nn.Linear(12, 5),
    ))  # fmt: skip
    place = saved(net.state_dict(), tmp_path)
    request = ModelRequest(arch="stack:relu,stride=1,padding=0,pool=max2")
    loaded = open_model(place, request)
    images = torch.rand(2, 1, 28, 28)
    assert loaded.encoder.image_shape == (1, 28, 28) and loaded.classifier is not None
    assert torch.allclose(loaded.classifier(images), net(images), atol=1e-6)
    with pytest.raises(CheckpointError, match=r"places between|no square image"):
        open_model(place, ModelRequest(arch="stack:relu,stride=1,padding=0"))


def test_one_network_under_two_names_is_one(tmp_path: Path) -> None:
    net = layouts.resnet18()
    content = layouts.under("backbone.", net) | layouts.under("model.0.", net)
    assert open_model(saved(content, tmp_path), ModelRequest(image_shape=(3, 64, 64))).encoder


def test_a_momentum_encoder_is_taken_on_request(tmp_path: Path) -> None:
    layout = layouts.moco_v2()
    place = saved(layout.content, tmp_path)
    asked = ModelRequest(image_shape=(3, 64, 64), network="encoder_k")
    first, second = open_model(place, replace(asked, network=None)), open_model(place, asked)
    images = torch.rand(2, 3, 64, 64)
    assert not torch.allclose(first.encoder(images), second.encoder(images))
    assert any("--network 'state_dict.encoder_k'" in note for note in first.notes)


def test_a_projection_of_contrastive_training_is_no_classifier(tmp_path: Path) -> None:
    place = saved(layouts.moco_v1().content, tmp_path)
    assert open_model(place, ModelRequest(image_shape=(3, 64, 64))).classifier is None
    with pytest.raises(CheckpointError, match="contrastive training"):
        open_model(place, ModelRequest(image_shape=(3, 64, 64), own_head=True))


def test_the_index_of_torchvision_is_that_of_this_version() -> None:
    assert json.loads(_INDEX.read_text()) == shapes_index()


STRANGERS = {
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
                             "git lfs pull"),
    "a web page": (b"<!DOCTYPE html><html></html>", "web page"),
    "a page in lower case": (b"\n<html lang='en'>", "web page"),
    "JSON": (b'{"a": 1}', "JSON"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "HDF5"),
    "gzip": (b"\x1f\x8b" + b"\0" * 99, "gzip"),
    "nothing": (b"", "weight file|damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_files_of_other_kinds_say_what_they_are(name: str, tmp_path: Path) -> None:
    content, words = STRANGERS[name]
    for ending in ("pth", "safetensors"):
        (tmp_path / f"x.{ending}").write_bytes(content)
        with pytest.raises(CheckpointError, match=words) as caught:
            open_model(tmp_path / f"x.{ending}")
        assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


class Evil:
    def __reduce__(self) -> tuple:
        return (open, ("/nonexistent/robustcl", "w"))


def states() -> dict[str, tuple[object, str]]:
    quantized = torch.quantize_per_tensor(torch.randn(4, 4), 0.1, 0, torch.qint8)
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))])
    return {
        "an optimizer's state": (optimizer.state_dict(), "optimizer"),
        "an optimizer in a table": ({"optimizer": optimizer.state_dict()}, "optimizer|no tensors"),
        "a pickled module": (nn.Linear(2, 2), r"would run code.*state_dict\(\)"),
        "a pickle with code": ({"state_dict": Evil()}, "would run code"),
        "a text model": ({"bert.embeddings.word_embeddings.weight": torch.ones(9, 4)}, "of text"),
        "a detector": ({"rpn.head.conv.weight": torch.ones(9, 4, 3, 3)}, "a detector"),
        "a quantised model": ({"fc.weight": quantized}, "quantized"),
        "a list of tensors": ([torch.ones(2), torch.ones(3)], "without names"),
        "one tensor": (torch.ones(2), "one tensor"),
        "a number": (3, "no tensors"),
    }


@pytest.mark.parametrize("name", states())
@pytest.mark.filterwarnings("ignore")
def test_files_without_an_encoder_say_so(name: str, tmp_path: Path) -> None:
    content, words = states()[name]
    with pytest.raises(CheckpointError, match=words) as caught:
        open_model(saved(content, tmp_path))
    said = str(caught.value)
    assert "weights_only" not in said and "safe_globals" not in said and "\n" not in said


@pytest.mark.filterwarnings("ignore")
def test_a_torch_script_program_says_what_it_is(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "x.pt"))
    with pytest.raises(CheckpointError, match=r"TorchScript.*FILE\.py:factory"):
        open_model(tmp_path / "x.pt")


def test_settings_beside_the_weights_are_inert(tmp_path: Path) -> None:
    layout = layouts.sup_con()
    assert open_model(saved(layout.content, tmp_path)).encoder is not None


CHECKPOINTS = Path(__file__).resolve().parents[4] / "shared" / "data" / "checkpoints"
REAL = {
    "cifar10_resnet20.th": {},
    "cifar10_cnn_c_sequential.pth": {"arch": "stack:relu,stride=2,padding=0"},
    "cifar10_list_of_state_dicts.pth": {
        "arch": "stack:relu,stride=2,padding=1", "network": "state_dict[0]"},
    "mnist_conv_sequential.pth": {"arch": "stack:relu,stride=2,padding=1"},
    "mnist_mlp_sequential.pth": {"arch": "stack:relu"},
}  # fmt: skip


def real_network(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    content = torch.load(CHECKPOINTS / name, map_location="cpu", weights_only=True)
    if name.startswith("cifar10_resnet"):
        state = {k.removeprefix("module."): v for k, v in content["state_dict"].items()}
        return layouts.OptionA((3, 3, 3), 16), state
    if name.startswith("cifar10_list"):
        return _convolutions(3, 16, 32, 1, 2048), content["state_dict"][0]
    if name.startswith("mnist_conv"):
        return _convolutions(1, 16, 32, 1, 1568), content
    if name.startswith("mnist_mlp"):
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100),
                             nn.ReLU(), nn.Linear(100, 10)), content  # fmt: skip
    return nn.Sequential(nn.Conv2d(3, 8, 4, 2), nn.ReLU(), nn.Conv2d(8, 16, 4, 2), nn.ReLU(),
                         nn.Flatten(), nn.Linear(576, 128), nn.ReLU(), nn.Linear(128, 64),
                         nn.ReLU(), nn.Linear(64, 10)), content  # fmt: skip


def _convolutions(channels: int, first: int, second: int, padding: int, flat: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, first, 4, 2, padding), nn.ReLU(),
        nn.Conv2d(first, second, 4, 2, padding), nn.ReLU(), nn.Flatten(), nn.Linear(flat, 100),
        nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip


@pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason="needs the files of others")
@pytest.mark.parametrize("name", REAL)
def test_real_files_give_the_logits_of_their_programs(name: str) -> None:
    loaded = open_model(CHECKPOINTS / name, ModelRequest(**REAL[name]))
    network, state = real_network(name)
    network.load_state_dict(state)
    assert loaded.classifier is not None
    images = torch.rand(8, *loaded.classifier.image_shape)
    with torch.no_grad():
        found, wanted = loaded.classifier(images), network.eval()(images)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
