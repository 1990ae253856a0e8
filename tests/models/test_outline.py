"""What a description asks for is held against the tensors of its file before it is built."""

import resource
import subprocess
import sys

import pytest
import torch
from torch import nn

import robustcl.models.outline as outline_module
from robustcl.core.errors import InputError
from robustcl.models.architectures import build_backbone, check_image_size
from robustcl.models.encoders import ARCHITECTURES
from robustcl.models.outline import outline, outlined_size


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_an_outline_has_the_shapes_of_the_network(name: str) -> None:
    arguments: dict[str, object] = {"channels": 3} if name != "cifar_resnet18" else {}
    if name == "stack":
        arguments = {"layers": [["conv", 3, 4, 3, 2], ["relu"], ["flatten"], ["linear", 900, 5]]}
    network = build_backbone(name, arguments)
    own = network.state_dict()
    found = outline(name, arguments, own)
    assert found is not None and all(value.is_meta for value in found.state_dict().values())
    shapes = {key: (value.shape, value.dtype) for key, value in own.items()}
    assert {k: (v.shape, v.dtype) for k, v in found.state_dict().items()} == shapes
    size = network.eval()(torch.zeros(2, 3, 32, 32)).shape[1]
    assert outlined_size(found, (3, 32, 32)) == size
    assert outlined_size(found, (5, 32, 32)) is None


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("small_convnet", {"width": 10**9}, "far more weights than the 1,000 numbers"),
        ("small_convnet", {"width": 10**18}, "cannot be built|far more weights"),
        ("strided_convnet", {"width": 50_000}, "far more weights"),
        ("batch_norm_convnet", {"image_size": 10**7}, "far more weights"),
        ("torchvision:resnet18", {"width_per_group": 10**9}, "more than 65536"),
        ("torchvision:vit_b_16", {"image_size": 60_000}, "far more weights"),
        ("torchvision:regnet_x_400mf", {"stem_width": 10**9}, "more than 65536"),
        ("torchvision:resnet18", {"norm_layer": "x"}, "cannot be built"),
        ("torchvision:__class__", {}, "no classification model"),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "reads other files"),
        ("resnet", {}, "unknown architecture"),
    ],
)
def test_absurd_networks_are_refused_before_they_take_memory(
    name: str, arguments: dict, words: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=words):
        outline(name, arguments, {"a": torch.zeros(1000)})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def deep(*, depth: int = 3) -> nn.Module:
    return nn.Sequential(*(nn.Linear(1, 1) for _ in range(depth)))


def test_layers_without_number_and_endless_loops_are_stopped(monkeypatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "deep", deep)
    given = deep().state_dict()
    assert outline("deep", {"depth": 3}, given) is not None
    with pytest.raises(InputError, match="far more layers than the 6 tensors"):
        outline("deep", {"depth": 10**9}, given)

    def endless() -> nn.Module:
        while True:
            pass

    monkeypatch.setitem(ARCHITECTURES, "endless", endless)
    monkeypatch.setattr(outline_module, "_PATIENCE", 0.1)
    with pytest.raises(InputError, match="is not built in"):
        outline("endless", {}, given)
    assert outline("deep", {}, given) is not None  # no exception is left over


def quits() -> None:
    raise SystemExit(3)


def fails() -> None:
    raise ZeroDivisionError("of its own")


def gives_none() -> None:
    return None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"{__name__}:quits", "SystemExit: 3"),
        (f"{__name__}:fails", "ZeroDivisionError: of its own"),
        (f"{__name__}:gives_none", "gives a NoneType"),
        (f"{__name__}:absent", "no attribute"),
        ("no_such_module:x", "no such module"),
        (":", "names no code"),
        ("a..b:c", "cannot be built"),
        (".a:c", "cannot be built"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", "no model|needs timm"),
        ("timm:local-dir:/nowhere", "no model|needs timm"),
    ],
)
def test_what_the_code_of_others_raises_is_one_line(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        build_backbone(name, {})
    assert "\n" not in str(error.value)


def test_sizes_of_images_are_bounded() -> None:
    check_image_size((3, 4096, 4096))
    for shape in ((1, 10**6, 10**6), (0, 8, 8), (3, -1, 8)):
        with pytest.raises(InputError, match="image_shape"):
            check_image_size(shape)


TRACED = """\
import sys
from robustcl.models.encoders import small_convnet
from robustcl.models.outline import outline
arguments = {"channels": 1, "image_size": 8, "width": 4, "embedding_size": 5}
outline("small_convnet", arguments, small_convnet(**arguments).state_dict())
sys.settrace(lambda frame, event, argument: None)
(lambda: None)()
sys.settrace(None)
"""


def test_building_leaves_no_mark_that_a_traced_function_hangs_on() -> None:
    # As those of AutoAttack's check for randomness are.
    subprocess.run([sys.executable, "-c", TRACED], check=True, timeout=100)
