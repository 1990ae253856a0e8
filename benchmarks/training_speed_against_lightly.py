"""Time SimCLR's pipeline against lightly's: the views alone, and whole training steps.

Both draw the same views (crop, flip, jitter, gray) of the same images; with --blur each also blurs
in its own way (Pillow's over the whole range, or a kernel of a tenth of the side). Both train the
same network with AdamW and NT-Xent. lightly does so as its README shows: its SimCLRTransform of
PIL images, decoded beforehand, in a DataLoader whose workers live on from epoch to epoch. Its
transform is spared the normalization, which both leave to the encoder.

An epoch of the one follows an epoch of the other in one process, in turn first. A ratio is
lightly's time over ours, so above 1 this toolkit is faster; between the brackets is a
distribution-free interval of the median of at least 95 %. Wall-clock time says little on a machine
that others use: processor seconds, those of the workers included, stand beside it.

Where other processes hold a core, OpenMP's waiting threads spin: two threads then take longer than
one. OMP_WAIT_POLICY=PASSIVE, or --threads 1, ends that.

Run: pip install lightly && python benchmarks/training_speed_against_lightly.py --data parquet:DIR
     [--device cuda] [--blur 0.5] [--network cifar_resnet18] [--out FILE]
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from scipy.stats import binom
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl.architectures import build_backbone
from robustcl.classifier import Encoder
from robustcl.data import Dataset, load_data
from robustcl.training.recipe import TrainRecipe
from robustcl.training.start_run import start_run
from robustcl.training.train_step import train_step
from robustcl.views import COLOR_VIEWS, simclr_views

LEARNING_RATE, WEIGHT_DECAY, TEMPERATURE = 1e-3, 1e-4, 0.5
LEVEL = 0.95
Epoch = Callable[[], None]


class Pictures(TorchDataset):
    """Hold decoded PIL images, as torchvision's CIFAR10 does; lightly sets the transform."""

    transform: Any = None

    def __init__(self, dataset: Dataset) -> None:
        self.images = [Image.fromarray(image) for image in dataset.images]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.transform(self.images[row]), 0


@dataclass(frozen=True)
class Cost:
    """Hold the seconds of one epoch, on the wall's clock and on all processors together."""

    wall: float
    processor: float


def network(options: argparse.Namespace) -> Encoder:
    torch.manual_seed(0)
    return Encoder(build_backbone(options.network, {}), image_shape=(3, 32, 32)).to(options.device)


def lightly_loader(dataset: Dataset, options: argparse.Namespace) -> DataLoader:
    from lightly.data import LightlyDataset  # pyright: ignore[reportMissingImports]
    from lightly.transforms import SimCLRTransform  # pyright: ignore[reportMissingImports]

    transform = SimCLRTransform(
        input_size=32,
        cj_prob=COLOR_VIEWS.jitter,
        cj_strength=0.5,  # .4, .4, .4 and .1, what lightly recommends for small images
        min_scale=COLOR_VIEWS.crop_scale[0],
        random_gray_scale=COLOR_VIEWS.gray,
        gaussian_blur=options.blur,
        hf_prob=COLOR_VIEWS.flip,
        normalize=None,
    )
    return DataLoader(
        LightlyDataset.from_torch_dataset(Pictures(dataset), transform=transform),
        batch_size=options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        pin_memory=options.device == "cuda",
    )


def lightly_epochs(dataset: Dataset, options: argparse.Namespace) -> tuple[Epoch, Epoch]:
    from lightly.loss import NTXentLoss  # pyright: ignore[reportMissingImports]

    loader, device = lightly_loader(dataset, options), options.device
    model, criterion = network(options).train(), NTXentLoss(temperature=TEMPERATURE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def views() -> None:
        for (first, second), _, _ in loader:
            for view in (first, second):
                view.to(device, non_blocking=True)

    def steps() -> None:
        for (first, second), _, _ in loader:
            first, second = first.to(device), second.to(device)
            loss = criterion(model(first), model(second))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return views, steps


def own_epochs(dataset: Dataset, options: argparse.Namespace) -> tuple[Epoch, Epoch]:
    recipe = TrainRecipe(
        loss=f"simclr:temperature={TEMPERATURE}",
        batch_size=options.batch_size,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        labels=0.0,
        views=replace(COLOR_VIEWS, blur=options.blur),
    )
    run = start_run(network(options), dataset, recipe, torch.device(options.device))

    def batches() -> tuple[torch.Tensor, ...]:
        order = torch.randperm(len(dataset), generator=run.generator, device=run.images.device)
        return order[: len(order) // options.batch_size * options.batch_size].split(
            options.batch_size
        )

    def views() -> None:
        for rows in batches():
            simclr_views(run.images[rows], options=run.views, generator=run.generator)

    def steps() -> None:
        for rows in batches():
            train_step(run, rows, epoch=0, rate=LEARNING_RATE)

    return views, steps


def processor_seconds() -> float:
    # CPUCLOCK_SCHED of another process, from Linux's ABI: its workers are still alive.
    workers = [child.pid for child in multiprocessing.active_children() if child.pid]
    return time.process_time() + sum(time.clock_gettime((~pid << 3) | 2) for pid in workers)


def cost(epoch: Epoch, device: str) -> Cost:
    wall, processor = time.perf_counter(), processor_seconds()
    epoch()
    if device == "cuda":
        torch.cuda.synchronize()
    return Cost(time.perf_counter() - wall, processor_seconds() - processor)


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """Return the median and order statistics around it that hold LEVEL, or all where few."""
    ranked, count = sorted(values), len(values)
    inner = max(int(binom.ppf((1.0 - LEVEL) / 2.0, count, 0.5)) - 1, 0)
    return statistics.median(ranked), ranked[inner], ranked[count - 1 - inner]


def compared(ours: Epoch, theirs: Epoch, images: int, options: argparse.Namespace) -> dict:
    for epoch in (ours, theirs):
        epoch()
    pairs: list[tuple[Cost, Cost]] = []
    for number in range(options.repeats):
        order = (ours, theirs) if number % 2 else (theirs, ours)
        costs = [cost(epoch, options.device) for epoch in order]
        pairs.append((costs[0], costs[1]) if number % 2 else (costs[1], costs[0]))
    found: dict[str, Any] = {}
    for clock in ("wall", "processor"):
        mine, other = ([getattr(pair[side], clock) for pair in pairs] for side in (0, 1))
        middle, low, high = median_interval([b / a for a, b in zip(mine, other, strict=True)])
        found[clock] = {
            "ratio": round(middle, 3),
            "interval": [round(low, 3), round(high, 3)],
            "images_per_second": round(images / statistics.median(mine)),
            "images_per_second_lightly": round(images / statistics.median(other)),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="as for robustcl train")
    parser.add_argument("--network", default="small_convnet")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--blur", type=float, default=0.0, help="probability")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--workers", type=int, default=2, help="of lightly's DataLoader")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="append the JSON line here")
    options = parser.parse_args()
    try:
        import lightly  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("skipped: lightly is not installed; pip install lightly")
        return
    torch.set_num_threads(options.threads)
    dataset = load_data(options.data, split="train").select(slice(options.images))
    ours, theirs = own_epochs(dataset, options), lightly_epochs(dataset, options)
    images = len(dataset) // options.batch_size * options.batch_size
    begun = os.getloadavg()[0]
    parts = {
        part: compared(mine, other, images, options)
        for part, mine, other in zip(("views", "steps"), ours, theirs, strict=True)
    }
    result = {
        **parts,
        "peer": f"lightly {version('lightly')}",
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "load_before_and_after": [round(begun, 1), round(os.getloadavg()[0], 1)],
        **{key: value for key, value in vars(options).items() if key not in ("data", "out")},
        **provenance(hidden=(options.data, str(options.out))),
    }
    record(result, options.out)


if __name__ == "__main__":
    main()
