"""Time the smoothing certificate against a bare loop of noise and forward passes.

The bare loop draws the same number of noisy images in full batches, from one generator, calls the
base classifier and throws the outputs away. Both are timed in turn in one process and compared as
a median of ratios; above 1 the certificate is faster than the loop. On a machine that others use,
`--clock cpu` with one thread counts the seconds that the processor spent on this process.

Run: python benchmarks/smoothing_throughput.py [--network resnet18] [--form vote] [--device cuda]
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl.certify import smoothing
from robustcl.core.classifier import Classifier, Encoder
from robustcl.models.encoders import cifar_resnet18, small_convnet
from robustcl.models.heads import PrototypeHead


def build(network: str) -> Classifier:
    torch.manual_seed(0)
    if network == "digits":
        backbone = small_convnet(channels=1, image_size=8, width=32, embedding_size=64)
        return Classifier(
            Encoder(backbone, image_shape=(1, 8, 8)), PrototypeHead(torch.randn(10, 64))
        ).eval()
    if network == "convnet":
        encoder = Encoder(small_convnet(), image_shape=(3, 32, 32))
        return Classifier(encoder, PrototypeHead(torch.randn(10, 64))).eval()
    encoder = Encoder(cifar_resnet18(), image_shape=(3, 32, 32))
    return Classifier(encoder, PrototypeHead(torch.randn(10, 512))).eval()


def bare(classifier: Classifier, images: Tensor, options: argparse.Namespace) -> None:
    total = len(images) * (options.n + options.n_select)
    with torch.no_grad():
        for start in range(0, total, options.batch_size):
            image = images[start * len(images) // total]
            noise = torch.randn(options.batch_size, *image.shape, device=image.device)
            classifier(image + 0.25 * noise)


def ours(classifier: Classifier, images: Tensor, options: argparse.Namespace) -> None:
    smoothing(
        classifier,
        images,
        n=options.n,
        n_select=options.n_select,
        form=options.form,
        batch_size=options.batch_size,
    )


def seconds(function, classifier: Classifier, images: Tensor, options: argparse.Namespace) -> float:
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    begun = clock()
    function(classifier, images, options)
    if images.is_cuda:
        torch.cuda.synchronize()
    return clock() - begun


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", choices=["digits", "convnet", "resnet18"], default="digits")
    parser.add_argument("--form", choices=["mean", "vote", "clip"], default="mean")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--n-select", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--out", type=Path, help="append the JSON line here")
    options = parser.parse_args()
    classifier = build(options.network).to(options.device)
    images = torch.rand(options.images, *classifier.image_shape, device=options.device)
    arguments = (classifier, images, options)
    seconds(ours, *arguments)
    seconds(bare, *arguments)
    pairs = [(seconds(bare, *arguments), seconds(ours, *arguments)) for _ in range(options.repeats)]
    ratios = sorted(loop / own for loop, own in pairs)
    rows = options.images * (options.n + options.n_select)
    result = {
        "throughput_ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "noisy_images_per_second": round(rows / statistics.median(own for _, own in pairs)),
        **{key: value for key, value in vars(options).items() if key != "out"},
        **provenance(hidden=(str(options.out),)),
    }
    record(result, options.out)


if __name__ == "__main__":
    main()
