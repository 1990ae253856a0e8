"""Time all pairwise gradient norms of a 10-class ResNet-18 against the floor.

The floor is one forward pass and ten input gradients by plain autograd. Both are timed in turn
and compared as a median of ratios.

Run: python benchmarks/pairwise_gradients.py [--batch 16] [--repeats 7]
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl.certify import pairwise_slopes
from robustcl.models.encoders import cifar_resnet18


def floor(network: nn.Module, images: Tensor) -> None:
    points = images.clone().requires_grad_()
    scores = network(points)
    for k in range(scores.shape[1]):
        torch.autograd.grad(scores[:, k].sum(), points, retain_graph=True)


def ours(network: nn.Module, images: Tensor) -> None:
    pairwise_slopes(network, images, norm="l2", batch_size=len(images))


def seconds(function, network: nn.Module, images: Tensor) -> float:
    begun = time.perf_counter()
    function(network, images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="append the JSON line here")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = cifar_resnet18(embedding_size=10).eval().requires_grad_(False).to(options.device)
    images = torch.rand(options.batch, 3, 32, 32, device=options.device)
    ours(network, images)
    pairs = [
        (seconds(ours, network, images), seconds(floor, network, images))
        for _ in range(options.repeats)
    ]
    ratio = statistics.median(a / b for a, b in pairs)
    floors = statistics.median(b for _, b in pairs)
    result = {"ratio": round(ratio, 3), "floor_seconds": round(floors, 3)}
    result |= {"batch": options.batch, "repeats": options.repeats, "device": options.device}
    record(result | provenance(hidden=(str(options.out),)), options.out)


if __name__ == "__main__":
    main()
