"""Measure how much of the exact radius certificates keep, where the exact one can be computed.

Small dense ReLU networks on scikit-learn's digits, trained for each loss and regularization below
from a fixed seed. The exact radius of each image (no box) is found by branch and bound over the
activation patterns (`tests/exact_radius.py`); images whose search takes too long are left out and
counted. Per network and norm: the median over images of certified over exact radius.

Run: python benchmarks/tightness.py [--images 14] [--out FILE]
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from robustcl.certify import certified_radius, crown, local, product
from robustcl.certify.claim import Claim
from robustcl.core.choices import CERTIFIED_NORMS
from robustcl.core.classifier import Classifier
from robustcl.data import load_data
from tests.exact_radius import exact_radius

METHODS: dict[str, Callable[..., Claim]] = {
    "product": product,
    "local": local,
    "crown": crown,
    "sound": certified_radius,
}
WIDTHS = {"2 layers, 16": (16,), "2 layers, 32": (32,), "3 layers, 16 + 12": (16, 12)}
DECAYS = {"": 1e-4, ", weight decay": 0.3}


def trained(widths: tuple[int, ...], decay: float, *, epochs: int = 60) -> Classifier:
    torch.manual_seed(0)
    sizes, layers = [64, *widths, 10], [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    data = load_data("digits", split="train")
    images, labels = data.tensor().float() / 255.0, torch.from_numpy(data.labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=decay)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(128):
            loss = functional.cross_entropy(network(images[rows]), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return Classifier.from_scores(network, image_shape=(1, 8, 8)).double().eval()


def ratios(model: Classifier, images: Tensor, exact: Tensor, norm: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, method in METHODS.items():
        radius = method(model, images, norm=norm).radius
        if bool((radius > exact * (1 + 1e-7)).any()):
            raise SystemExit(f"{name} is above the exact radius: {radius} {exact}")
        found[name] = round(float((radius / exact).median()), 4)
    for splits in (0, 4, 6):
        begun = time.perf_counter()
        radius = certified_radius(model, images, norm=norm, slope_steps=20, splits=splits).radius  # pyright: ignore[reportArgumentType]
        if bool((radius > exact * (1 + 1e-7)).any()):
            raise SystemExit(f"{splits} splits are above the exact radius: {radius} {exact}")
        found[f"sound, {splits} splits"] = round(float((radius / exact).median()), 4)
        milliseconds = 1e3 * (time.perf_counter() - begun) / len(images)
        found[f"sound, {splits} splits, ms_per_image"] = round(milliseconds, 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=14)
    parser.add_argument("--out", type=Path, help="append the JSON lines here")
    options = parser.parse_args()
    batch = next(iter(load_data("digits", split="test").batches(options.images)))
    images = batch.images.double()
    for name, widths in WIDTHS.items():
        for suffix, decay in DECAYS.items():
            model = trained(widths, decay)
            for norm in CERTIFIED_NORMS:
                begun = time.perf_counter()
                exact = torch.tensor([exact_radius(model, image, norm=norm) for image in images])
                line = {
                    "network": name + suffix,
                    "norm": norm,
                    "images": len(images),
                    "exact_median": float(exact.median()),
                    "exact_seconds_per_image": round(
                        (time.perf_counter() - begun) / len(images), 2
                    ),
                    "torch": torch.__version__,
                    **ratios(model, images, exact, norm),
                }
                print(json.dumps(line), flush=True)
                if options.out:
                    with options.out.open("a") as file:
                        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
