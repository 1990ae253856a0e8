"""Weight files as frameworks and research programs write them, with the function that they hold."""

import argparse
import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

Function = Callable[[Tensor], Tensor]


@dataclass
class Layout:
    """A file and what it should give.

    `options` are those of `ModelRequest`; `scores` says whether the file is of a classifier.
    """

    content: Any
    function: Function
    side: int = 32
    options: dict[str, Any] = field(default_factory=dict)
    scores: bool = False


def settled(network: nn.Module) -> nn.Module:
    """Give BatchNorm statistics that matter."""
    torch.manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)  # pyright: ignore[reportOptionalMemberAccess]
            part.running_var.uniform_(0.5, 2)  # pyright: ignore[reportOptionalMemberAccess]
            nn.init.uniform_(part.weight, 0.5, 1.5)
    return network.eval()


def resnet18(*, fc: bool = False) -> nn.Module:
    network = torchvision.models.resnet18()
    if not fc:
        network.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return settled(network)


def cifar18() -> nn.Module:
    network = resnet18()
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return network.eval()


def under(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in network.state_dict().items()}


def other(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    # A second network of the same kind, with other numbers.
    return {
        prefix + key: value + 0.1 if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }


def mlp(prefix: str, *sizes: int) -> dict[str, Tensor]:
    found = {}
    for number, (into, out) in enumerate(itertools.pairwise(sizes)):
        found[f"{prefix}{2 * number}.weight"] = torch.randn(out, into)
        found[f"{prefix}{2 * number}.bias"] = torch.randn(out)
    return found


class Kuangliu(nn.Module):
    """The residual network of a public program for CIFAR, with `shortcut` and `linear`."""

    class Block(nn.Module):
        def __init__(self, before: int, width: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.shortcut = nn.Sequential()
            if stride != 1 or before != width:
                conv = nn.Conv2d(before, width, 1, stride, bias=False)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

        def forward(self, x: Tensor) -> Tensor:
            out = functional.relu(self.bn1(self.conv1(x)))
            return functional.relu(self.bn2(self.conv2(out)) + self.shortcut(x))

    def __init__(self, blocks: tuple[int, ...], width: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        before = width
        for number, count in enumerate(blocks):
            stage = []
            for place in range(count):
                stride = 2 if number and not place else 1
                stage.append(self.Block(before, width * 2**number, stride))
                before = width * 2**number
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
        self.count = len(blocks)
        self.linear = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        for number in range(self.count):
            out = self.get_submodule(f"layer{number + 1}")(out)
        return self.linear(functional.avg_pool2d(out, out.shape[-1]).flatten(1))


class OptionA(Kuangliu):
    """The same with shortcuts that are strided and padded, without weights."""

    class Block(Kuangliu.Block):
        def __init__(self, before: int, width: int, stride: int) -> None:
            super().__init__(before, width, stride)
            self.shortcut = nn.Sequential()
            self.more = width - before

        def forward(self, x: Tensor) -> Tensor:
            out = functional.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            if self.more:
                half = self.more // 2
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
            return functional.relu(out + x)


def stack() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(1024, 20), nn.ReLU(), nn.Linear(20, 10),
    ).eval()  # fmt: skip


STACK = {"arch": "stack:relu,stride=2,padding=1"}
CIFAR = {"arch": "cifar_resnet18", "arguments": {"stem_padding": 1}}


def data_parallel() -> Layout:
    net = resnet18()
    return Layout({"state_dict": nn.DataParallel(net).state_dict(), "epoch": 3}, net, 64)


def compiled() -> Layout:
    net = resnet18()
    return Layout(under("_orig_mod.", net), net, 64)


def compiled_inside() -> Layout:
    net = resnet18()
    found = {k.replace("layer1.", "layer1._orig_mod."): v for k, v in net.state_dict().items()}
    return Layout({f"module.{k}": v for k, v in found.items()}, net, 64)


def fsdp() -> Layout:
    net = resnet18()
    found = {
        k.replace("layer2.", "layer2._fsdp_wrapped_module._checkpoint_wrapped_module."): v
        for k, v in net.state_dict().items()
    }
    return Layout({f"_fsdp_wrapped_module.{k}": v for k, v in found.items()}, net, 64)


def deep_speed() -> Layout:
    net = resnet18(fc=True)
    content = {"module": net.state_dict(), "optimizer": {"state": {}, "param_groups": []},
               "global_steps": 5}  # fmt: skip
    return Layout(content, net, 64, scores=True)


def lightning() -> Layout:
    lib = pytest.importorskip("pytorch_lightning", reason="needs pytorch-lightning")

    class Module(lib.LightningModule):  # pyright: ignore[reportUntypedBaseClass]
        def __init__(self) -> None:
            super().__init__()
            self.backbone = resnet18()
            self.projection_head = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 32))

    module = Module().eval()
    content = {
        "state_dict": module.state_dict(), "epoch": 1, "global_step": 9,
        "pytorch-lightning_version": lib.__version__, "hyper_parameters": {"lr": 0.1},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}],
        "lr_schedulers": [], "callbacks": {}, "loops": {},
    }  # fmt: skip
    return Layout(content, module.backbone, 64)


def lightly_numbered() -> Layout:
    pytest.importorskip("lightly", reason="needs lightly")
    from lightly.models.modules.heads import SimCLRProjectionHead  # pyright: ignore[reportMissingImports]

    class SimCLR(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            net = torchvision.models.resnet18()
            self.backbone = nn.Sequential(*list(net.children())[:-1])
            self.projection_head = SimCLRProjectionHead(512, 64, 32)

    model = settled(SimCLR())
    return Layout({"state_dict": model.state_dict()}, lambda x: model.backbone(x).flatten(1), 64)  # pyright: ignore[reportCallIssue]


def lightly_generator() -> Layout:
    pytest.importorskip("lightly", reason="needs lightly")
    from lightly.models import ResNetGenerator  # pyright: ignore[reportMissingImports]

    net = settled(ResNetGenerator("resnet-18"))
    backbone = nn.Sequential(*list(net.children())[:-1], nn.AdaptiveAvgPool2d(1)).eval()
    return Layout(under("backbone.", backbone), lambda x: backbone(x).flatten(1))


def lightly_moco() -> Layout:
    pytest.importorskip("lightly", reason="needs lightly")
    from lightly.models.modules.heads import MoCoProjectionHead  # pyright: ignore[reportMissingImports]

    net = torchvision.models.resnet18()
    backbone = settled(nn.Sequential(*list(net.children())[:-1]))
    head = MoCoProjectionHead(512, 64, 32)
    content = under("backbone.", backbone) | under("projection_head.", head)
    content |= other(backbone, "backbone_momentum.") | other(head, "projection_head_momentum.")
    return Layout(content, lambda x: backbone(x).flatten(1), 64)


def solo_learn() -> Layout:
    net = cifar18()
    content = under("backbone.", net) | mlp("projector.", 512, 64, 32)
    content |= {"classifier.weight": torch.randn(10, 512), "classifier.bias": torch.zeros(10)}
    return Layout({"state_dict": content}, net, options=CIFAR)


def solo_learn_momentum() -> Layout:
    net = cifar18()
    content = under("backbone.", net) | other(net, "momentum_backbone.")
    content |= mlp("projector.", 512, 64) | mlp("momentum_projector.", 512, 64)
    return Layout({"state_dict": content}, net, options=CIFAR)


def moco_v2() -> Layout:
    net = resnet18()
    content = under("module.encoder_q.", net) | other(net, "module.encoder_k.")
    content |= mlp("module.encoder_q.fc.", 512, 512, 128)
    content |= mlp("module.encoder_k.fc.", 512, 512, 128)
    content |= {"module.queue": torch.randn(128, 64), "module.queue_ptr": torch.zeros(1).long()}
    return Layout({"state_dict": content, "arch": "resnet18", "epoch": 200}, net, 64)


def moco_v1() -> Layout:
    net = resnet18()
    content = under("module.encoder_q.", net) | other(net, "module.encoder_k.")
    for name in ("encoder_q", "encoder_k"):
        content |= {f"module.{name}.fc.weight": torch.randn(128, 512)}
        content |= {f"module.{name}.fc.bias": torch.randn(128)}
    return Layout({"state_dict": content}, net, 64)


def moco_v3() -> Layout:
    net = resnet18()
    content = under("module.base_encoder.", net) | other(net, "module.momentum_encoder.")
    content |= mlp("module.base_encoder.fc.", 512, 64) | mlp("module.predictor.", 64, 64)
    return Layout({"state_dict": content}, net, 64)


def dino(which: str) -> Callable[[], Layout]:
    def build() -> Layout:
        net = resnet18()
        student, teacher = under("module.backbone.", net), other(net, "backbone.")
        student |= mlp("module.head.mlp.", 512, 64) | {
            "module.head.last_layer.weight_g": torch.ones(9, 1)
        }
        teacher |= mlp("head.mlp.", 512, 64)
        content = {"student": student, "teacher": teacher, "epoch": 3,
                   "args": argparse.Namespace(arch="resnet18", lr=0.1),
                   "dino_loss": {"center": torch.zeros(1, 9)}}  # fmt: skip
        if which == "student":
            return Layout(content, net, 64, {"network": "student"})
        copy = resnet18()
        copy.load_state_dict({k.removeprefix("backbone."): v for k, v in teacher.items()
                              if k.startswith("backbone.")})  # fmt: skip
        return Layout(content, copy, 64, {"network": "teacher"})

    return build


def dino_vit() -> Layout:
    timm = pytest.importorskip("timm", reason="needs timm")
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64).eval()
    content = {"teacher": under("backbone.", net) | mlp("head.mlp.", 192, 64)}
    return Layout(content, net, 64)


def swav() -> Layout:
    net = resnet18()
    content = under("module.", net) | mlp("module.projection_head.", 512, 64)
    content |= {"module.prototypes.weight": torch.randn(30, 64)}
    return Layout({"state_dict": content}, net, 64)


def byol() -> Layout:
    net = resnet18()
    content = under("online_encoder.net.", net) | mlp("online_encoder.projector.net.", 512, 64)
    content |= other(net, "target_encoder.net.") | mlp("target_encoder.projector.net.", 512, 64)
    content |= mlp("online_predictor.net.", 64, 64)
    return Layout(content, net, 64)


def vissl() -> Layout:
    net = resnet18()
    trunk = under("_feature_blocks.", net)
    model = {"trunk": trunk, "heads": mlp("0.clf.0.", 512, 64)}
    content = {"classy_state_dict": {"base_model": {"model": model}}, "phase": 3}
    return Layout(content, net, 64)


def simclr_numbered() -> Layout:
    # The children of a ResNet-18 with a 3x3 stem, in a list without the pooling.
    net = cifar18()
    parts = [m for n, m in net.named_children() if n not in ("maxpool", "fc")]
    encoder = nn.Sequential(*parts).eval()
    content = under("f.", encoder) | mlp("g.", 512, 64, 32)
    return Layout(content, net)


def simclr_module() -> Layout:
    net = resnet18()
    content = under("backbone.", net) | mlp("backbone.fc.", 512, 512, 128)
    content_ = {"epoch": 9, "arch": "resnet18", "state_dict": content, "optimizer": {
        "state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}}  # fmt: skip
    return Layout(content_, net, 64)


def sup_con() -> Layout:
    net = Kuangliu((2, 2, 2, 2), 16)
    settled(net)
    inner = {k: v for k, v in net.state_dict().items() if not k.startswith("linear")}
    content = {f"encoder.module.{k}": v for k, v in inner.items()} | mlp("head.", 128, 128)
    options = argparse.Namespace(model="resnet18", temp=0.07)
    return Layout({"opt": options, "model": content, "epoch": 4},
                  lambda x: features(net, x))  # fmt: skip


def features(net: Kuangliu, images: Tensor) -> Tensor:
    layer, net.linear = net.linear, nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return net(images)
    finally:
        net.linear = layer


def barlow_twins() -> Layout:
    net = resnet18()
    content = under("module.backbone.", net) | mlp("module.projector.", 512, 64)
    content |= {"module.bn.running_mean": torch.zeros(64)}
    return Layout({"epoch": 9, "model": content, "optimizer": {"state": {}, "param_groups": []}},
                  net, 64)  # fmt: skip


def ema(which: str) -> Callable[[], Layout]:
    def build() -> Layout:
        net = resnet18(fc=True)
        copy = resnet18(fc=True)
        copy.load_state_dict(other(net, ""))
        content = {"model": net.state_dict(), which: copy.state_dict(), "epoch": 2}
        return Layout(content, copy, 64, {"network": which}, scores=True)

    return build


def list_of_states() -> Layout:
    net = stack()
    content = {"state_dict": [net.state_dict(), other(net, "")], "err": 0.1}
    return Layout(content, net, options=STACK | {"network": "state_dict[0]"}, scores=True)


def sequential() -> Layout:
    net = stack()
    return Layout(OrderedDict(net.state_dict()), net, options=STACK, scores=True)


def sequential_inside() -> Layout:
    net = stack()
    return Layout({"model_state_dict": under("net.", net)}, net, options=STACK, scores=True)


def kuangliu() -> Layout:
    net = settled(Kuangliu((2, 2, 2, 2), 16))
    return Layout({"net": under("module.", net), "acc": 91.2, "epoch": 5}, net, scores=True)


def akamaster(depth: int, kind: type[Kuangliu]) -> Callable[[], Layout]:
    def build() -> Layout:
        net = settled(kind(((depth - 2) // 6,) * 3, 16))
        return Layout({"state_dict": under("module.", net), "best_prec1": 9.0}, net, scores=True)

    return build


def whole(name: str, side: int = 64) -> Callable[[], Layout]:
    def build() -> Layout:
        torch.manual_seed(0)
        net = settled(torchvision.models.get_model(name, weights=None, num_classes=7))
        for part in net.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.05)  # that of some heads is 0
        return Layout(net.state_dict(), net, side, scores=True)

    return build


def with_counts() -> Layout:
    net = resnet18()
    content = under("module.", net) | {"module.total_ops": torch.zeros(1)}
    content |= {"module.layer1.total_params": torch.zeros(1)}
    return Layout(content, net, 64)


LAYOUTS: Mapping[str, Callable[[], Layout]] = {
    "DataParallel": data_parallel, "torch.compile": compiled, "compiled inside": compiled_inside,
    "FSDP": fsdp, "DeepSpeed": deep_speed, "Lightning": lightning,
    "lightly, children by number": lightly_numbered, "lightly's generator": lightly_generator,
    "lightly, MoCo": lightly_moco, "solo-learn": solo_learn,
    "solo-learn with momentum": solo_learn_momentum, "MoCo v1": moco_v1, "MoCo v2": moco_v2,
    "MoCo v3": moco_v3, "DINO student": dino("student"), "DINO teacher": dino("teacher"),
    "DINO ViT": dino_vit, "SwAV": swav, "BYOL": byol, "VISSL": vissl,
    "SimCLR by number": simclr_numbered, "SimCLR": simclr_module, "SupCon": sup_con,
    "Barlow Twins": barlow_twins, "model_ema": ema("model_ema"),
    "state_dict_ema": ema("state_dict_ema"), "list of states": list_of_states,
    "Sequential": sequential, "Sequential inside": sequential_inside, "kuangliu": kuangliu,
    "akamaster 20": akamaster(20, OptionA), "akamaster 32": akamaster(32, OptionA),
    "option B": akamaster(20, Kuangliu), "torchvision resnet50": whole("resnet50"),
    "torchvision vgg11_bn": whole("vgg11_bn"), "torchvision mobilenet": whole("mobilenet_v3_small"),
    "torchvision convnext": whole("convnext_tiny"), "torchvision ViT": whole("vit_b_32", 224),
    "torchvision densenet": whole("densenet121"), "profiler's counts": with_counts,
}  # fmt: skip
