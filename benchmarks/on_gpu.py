"""Measure on a GPU what only a GPU tells, in at most twelve minutes.

Each task appends one line of JSON to the output and is left out where the output has it already,
so the command may be repeated until all is there. No task begins once the minutes are over.

| task | what |
|---|---|
| agreement | certificates and attacks on the device against those on the CPU |
| smoothing | noisy images per second of smoothing on a ResNet-50 at 224, float32 and bfloat16 |
| training | SimCLR images per second of a ResNet-18 at 32, and kNN accuracy against time |
| autoattack | screened AutoAttack in Linf 8/255 on a network, images per minute |
| vmap | Jacobians by `torch.func.vmap` against a loop over rows |
| bounds | linear bounds in float32 and in float64 |

`--small` measures nothing of use: it tries every task on a CPU in seconds.

Run: python benchmarks/on_gpu.py --out FILE [--device cuda] [--minutes 12] [--only TASK] [--small]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from benchmarks.ten_networks import build
from robustcl import Classifier, Encoder, Threat, misclassify
from robustcl.attacks import run_attack, screened
from robustcl.certify import crown, product, smoothing
from robustcl.data import load_data
from robustcl.models.encoders import cifar_resnet18
from robustcl.models.heads import PrototypeHead
from robustcl.training import TrainRecipe, train_encoder


def seconds_of(function: Callable[[], object], device: str) -> float:
    """Time one call, the device's queue emptied before and after.

    Args:
        function: What is timed.
        device: Where it runs.

    Returns:
        Seconds.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    began = time.perf_counter()
    function()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began


def agreement(options: argparse.Namespace) -> dict[str, Any]:
    names = ("digits-conv2",) if options.small else ("digits-conv2", "color-conv4", "color-maxmin4")
    found: dict[str, Any] = {}
    for name in names:
        there, here = build(name).to(options.device), build(name)
        images = torch.rand(4, *here.image_shape, generator=torch.Generator().manual_seed(1))
        for certificate in (product, crown):
            own = certificate(there, images.to(options.device), norm="l2").radius.cpu()
            wanted = certificate(here, images, norm="l2").radius
            worst = float(((own - wanted).abs() / wanted.clamp_min(1e-12)).max())
            found[f"{name}, {certificate.__name__}: largest relative difference"] = worst
        labels = here(images).argmax(dim=1)
        threat = Threat("l2", 1.0)
        one = run_attack("pgd", misclassify(here, labels), images, threat)
        other_labels = labels.to(options.device)
        objective = misclassify(there, other_labels)
        two = run_attack("pgd", objective, images.to(options.device), threat)
        found[f"{name}, pgd: fooled on the CPU, on the device"] = [
            int(one.success.sum()),
            int(two.success.sum()),
        ]
    return found


def _resnet50(options: argparse.Namespace) -> Classifier:
    torch.manual_seed(0)
    side = 32 if options.small else 224
    network = nn.Sequential(*list(torchvision.models.resnet50(weights=None).children())[:-1])
    encoder = Encoder(nn.Sequential(network, nn.Flatten()), image_shape=(3, side, side))
    return Classifier(encoder, PrototypeHead(torch.randn(10, 2048))).eval().to(options.device)


def throughput(options: argparse.Namespace) -> dict[str, Any]:
    classifier, found = _resnet50(options), {}
    count, batch = (40, 8) if options.small else (10_000, 512)
    image = torch.rand(1, *classifier.image_shape, device=options.device)

    def certified() -> object:
        return smoothing(classifier, image, sigma=0.25, n=count, n_select=10, batch_size=batch)

    for name, kind in (("float32", None), ("bfloat16", torch.bfloat16)):
        with torch.autocast(torch.device(options.device).type, kind, enabled=kind is not None):
            certified()
            found[f"{name}: noisy images per second"] = count / seconds_of(
                certified, options.device
            )
    return found


def training(options: argparse.Namespace) -> dict[str, Any]:
    dataset = load_data(options.data, split="train", limit=64 if options.small else None)
    torch.manual_seed(0)
    channels, side, _ = dataset.image_shape
    encoder = Encoder(cifar_resnet18(channels=channels), image_shape=(channels, side, side))
    recipe = TrainRecipe(
        epochs=1 if options.small else 1000,
        batch_size=32 if options.small else 512,
        max_seconds=None if options.small else 150.0,
        learning_rate=1e-3,
        autocast=options.device.startswith("cuda"),
    )
    started, curve = time.perf_counter(), []

    def observe(_: Encoder, epoch: int) -> dict[str, float]:
        curve.append((epoch, time.perf_counter() - started))
        return {}

    log = train_encoder(
        encoder, dataset, recipe, device=options.device, progress=False, observe=observe
    )
    accuracy = {row["epoch"]: row["knn_accuracy"] for row in log.rows if "knn_accuracy" in row}
    return {
        "images per second": log.images_per_second,
        "epochs": len(log.rows),
        "seconds and kNN accuracy": [(s, accuracy[e]) for e, s in curve if e in accuracy],
    }


def autoattack(options: argparse.Namespace) -> dict[str, Any]:
    classifier = build("digits-conv2" if options.small else "color-resnet").to(options.device)
    count = 4 if options.small else 512
    images = torch.rand(count, *classifier.image_shape, device=options.device)
    objective = misclassify(classifier, classifier(images).argmax(dim=1))
    threat = Threat("linf", 8 / 255)
    spent = seconds_of(lambda: screened(objective, images, threat), options.device)
    return {"images": count, "seconds": spent, "images per minute": 60 * count / spent}


def vmap(options: argparse.Namespace) -> dict[str, Any]:
    classifier = build("digits-conv2" if options.small else "color-conv10").to(options.device)
    image = torch.rand(classifier.image_shape, device=options.device)
    rows = torch.eye(classifier.raw_embeddings(image[None]).shape[1], device=options.device)

    def embedding(one: Tensor) -> Tensor:
        return classifier.raw_embeddings(one[None])[0]

    def together() -> object:
        return torch.func.vmap(torch.func.vjp(embedding, image)[1])(rows)

    def in_turn() -> object:
        vjp = torch.func.vjp(embedding, image)[1]
        return [vjp(row) for row in rows]

    for one in (together, in_turn):
        one()
    spent = [seconds_of(one, options.device) for one in (together, in_turn)]
    return {"rows": len(rows), "loop over vmap": spent[1] / spent[0]}


def bounds(options: argparse.Namespace) -> dict[str, Any]:
    found = {}
    for name in ("digits-conv2",) if options.small else ("digits-conv2", "color-conv4"):
        classifier = build(name).to(options.device)
        image = torch.rand(1, *classifier.image_shape, device=options.device)
        for kind in (torch.float32, torch.float64):
            model = build(name).to(options.device).to(kind)
            crown(model, image, norm="l2")
            spent = seconds_of(lambda m=model, x=image: crown(m, x, norm="l2"), options.device)
            found[f"{name}, {str(kind).removeprefix('torch.')}: seconds"] = spent
    return found


TASKS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "agreement": agreement,
    "smoothing": throughput,
    "training": training,
    "autoattack": autoattack,
    "vmap": vmap,
    "bounds": bounds,
}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="lines of JSON; gone on with")
    parser.add_argument("--device", default="cuda", help="where to measure")
    parser.add_argument("--minutes", type=float, default=12.0, help="no task begins after them")
    parser.add_argument("--only", choices=list(TASKS), help="one task")
    parser.add_argument("--data", default="digits", help="training images of SimCLR")
    parser.add_argument("--small", action="store_true", help="try every task in seconds")
    options = parser.parse_args(words)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = {json.loads(line)["task"] for line in lines}
    began = time.monotonic()
    for name, task in TASKS.items():
        if name in done or options.only not in (None, name):
            continue
        if time.monotonic() - began > 60 * options.minutes:
            print(f"left out: {name}; repeat the command", file=sys.stderr)
            continue
        start = time.monotonic()
        found = task(options)
        spent = time.monotonic() - start
        made = provenance(hidden=(str(options.out),))
        record({"task": name, **found, "task_seconds": spent, **made}, options.out)


if __name__ == "__main__":
    main()
