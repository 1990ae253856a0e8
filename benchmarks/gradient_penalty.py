"""The finite-difference gradient penalty against the same training without it, at equal budget.

The network, images, views, loss and optimizer are the same: two convolutions and a linear layer
without BatchNorm, SupCon + SimCLR, on 4,000 CIFAR-10 training images or 1,200 digits. Budgets are
equal in passes through the network (a backward pass counts 2, one to the images alone 1): the
penalty in the batch direction takes 7 for the 3 of plain training, in a random direction 6, and so
many fewer epochs. Processor time is recorded.

The weight is chosen with seed 0 on training images that were held out: of those with an accuracy
within 2 points of plain training, the one with the largest mean of radii certified by `sound` (L2;
wrong predictions count 0). Then three seeds, on test images: accuracy; on 200 of them the median
and mean certified radius, the median over right predictions alone, and the median of the sound
bound of the gradient of the nearest other class's margin over the ball of radius .1, relative to
|h(x)|.

One JSON line per run; a run that is in the file is not repeated.

Run: OMP_NUM_THREADS=1 python benchmarks/gradient_penalty.py --profile cifar10 \
         --data parquet:PATH --out FOLDER; likewise --profile digits --data digits
     (9 and 3 minutes of processor time)
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.label_fraction import MEAN, STD
from benchmarks.provenance import provenance, record
from robustcl.certify import certified_radius, prepared_model
from robustcl.certify._local import first_radii
from robustcl.certify.bounds.refined_bounds import refined_bounds
from robustcl.certify.bounds.zonotope_slopes import best_jacobian_bounds
from robustcl.certify.verification_problem import verification_problem
from robustcl.core.classifier import Classifier, Encoder
from robustcl.data import Batch, Dataset, load_data
from robustcl.data.views import DIGIT_VIEWS, ViewOptions
from robustcl.models.encoders import small_convnet
from robustcl.models.heads.fitting import fit_head
from robustcl.training import DEMO_ARCHITECTURE, TrainRecipe, mixed_loss, train_encoder

CERTIFIED = 200
SEEDS = (0, 1, 2)
WITHIN = 0.02
RADIUS = 0.1
T_THREE = 4.302653  # 97.5 % quantile of Student's t with two degrees of freedom


@dataclass(frozen=True)
class Arm:
    """State what is trained.

    Args:
        direction: Of the penalty; '' for none.
        epochs: So that all arms have the same number of passes.
    """

    direction: str
    epochs: int


ARMS = {"plain": Arm("", 28), "batch": Arm("batch", 12), "random": Arm("random", 14)}


@dataclass(frozen=True)
class Profile:
    """State on what is trained and tested.

    Args:
        images: Training images.
        held_out: Further training images, to choose by.
        tested: Test images.
        mean: Of the input normalization.
        std: Of the input normalization.
        views: Of training.
        weights: Arm to the weights that are tried.
        rounds: Factor of the epochs.
    """

    images: int
    held_out: int
    tested: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    views: ViewOptions
    weights: Mapping[str, tuple[float, ...]]
    rounds: float


PROFILES = {
    "cifar10": Profile(
        4000,
        1000,
        1000,
        MEAN,
        STD,
        ViewOptions(crop_scale=(0.5, 1.0), flip=0.5),
        {"plain": (0.0,), "batch": (0.01, 0.03, 0.1), "random": (0.0005, 0.002, 0.01)},
        rounds=1.5,
    ),
    "digits": Profile(
        1200,
        200,
        360,
        (0.0,),
        (1.0,),
        DIGIT_VIEWS,
        {"plain": (0.0,), "batch": (0.1, 0.5, 2.0), "random": (0.01, 0.05, 0.2)},
        rounds=5,
    ),
}


def network(name: str) -> nn.Sequential:
    """Build the backbone: every sound certificate treats it, in milliseconds per image.

    Args:
        name: Of the profile.

    Returns:
        Images to (B, 64), with fresh weights.
    """
    if name == "digits":
        return small_convnet(**{**DEMO_ARCHITECTURE, "width": 16})
    return nn.Sequential(
        nn.Conv2d(3, 32, 4, stride=4),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 16, 64),
    )


def trained(
    arm: Arm, weight: float, seed: int, profile: str, dataset: Dataset
) -> tuple[Classifier, float]:
    """Train one arm.

    Args:
        arm: Which.
        weight: Of the penalty.
        seed: Of weights, order and views.
        profile: Its name.
        dataset: Training images.

    Returns:
        The classifier with a prototype head, and the seconds of processor time of training.
    """
    facts = PROFILES[profile]
    recipe = TrainRecipe(
        loss=mixed_loss(0.8),
        robust=f"penalty:weight={weight:g},direction={arm.direction}" if arm.direction else "",
        epochs=round(arm.epochs * facts.rounds),
        batch_size=256,
        learning_rate=3e-3,
        views=facts.views,
        seed=seed,
    )
    torch.manual_seed(seed)
    shape = dataset.image_shape
    encoder = Encoder(network(profile), image_shape=shape, mean=facts.mean, std=facts.std)
    begun = time.process_time()
    train_encoder(encoder, dataset, recipe, progress=False)
    return fit_head(encoder, dataset), time.process_time() - begun


def judged(classifier: Classifier, batch: Batch) -> dict[str, float]:
    """Measure accuracy, certified radii and the sound local bound.

    Args:
        classifier: With a prototype head.
        batch: Images; radii and bounds are those of the first `CERTIFIED`.

    Returns:
        Numbers by name.
    """
    with torch.no_grad():
        right = classifier(batch.images).argmax(dim=1) == batch.labels
    images, labels = batch.images[:CERTIFIED], batch.labels[:CERTIFIED]
    claim = certified_radius(classifier, images)
    radii = torch.where(claim.predicted == labels, claim.radius, 0.0)
    return {
        "accuracy": float(right.double().mean()),
        "median_radius": float(radii.quantile(0.5)),
        "median_radius_of_right": float(radii[claim.predicted == labels].quantile(0.5)),
        "mean_radius": float(radii.mean()),
        "certified_at_0.1": float((radii >= 0.1).double().mean()),
        "local_bound": float(local_bounds(classifier, images).median()),
    }


def local_bounds(classifier: Classifier, images: Tensor) -> Tensor:
    """Bound the gradient of the nearest other class's margin a_j.h over a ball, relative to |h(x)|.

    Args:
        classifier: With a prototype head.
        images: (B, C, H, W).

    Returns:
        (B,) upper bounds.
    """
    model = prepared_model(classifier, norm="l2", method="local")
    task = verification_problem(model, images.double())
    nearest = first_radii(task).argmin(dim=1)
    size = torch.full((len(images),), RADIUS, dtype=torch.float64)
    regions = refined_bounds(model.fast, task.images, size, task.center, norm="l2")
    rows = torch.arange(len(images))
    directions = task.directions[rows, nearest][:, None]
    bounds = best_jacobian_bounds(model.fast, regions, directions, norm="l2")[:, 0]
    with torch.no_grad():
        return bounds.double() / classifier.raw_embeddings(images).double().norm(dim=1)


def choose(lines: list[dict]) -> dict[str, float]:
    """Choose the weight of each direction by what was measured on held-out training images.

    Args:
        lines: Records of seed 0.

    Returns:
        Arm to weight.
    """
    held = [line for line in lines if line["images"] == "held out"]
    least = next(x for x in held if x["arm"] == "plain")["accuracy"] - WITHIN
    found = {"plain": 0.0}
    for name in ("batch", "random"):
        own = [line for line in held if line["arm"] == name]
        near = [line for line in own if line["accuracy"] >= least]
        best = max(near or own, key=lambda x: x["mean_radius"] if near else x["accuracy"])
        found[name] = best["weight"]
    return found


def run(options: argparse.Namespace) -> None:
    """Train and measure what is not in the file yet.

    Args:
        options: Of the command line.
    """
    place = options.out / f"{options.profile}.jsonl"
    profile = PROFILES[options.profile]
    whole = load_data(
        options.data, split="train", limit=profile.images + profile.held_out, draw="first"
    )
    dataset = whole.select(slice(0, profile.images))
    held = whole.batch(range(profile.images, len(whole)))
    test = load_data(options.data, split="test", limit=profile.tested, draw="first")
    test = test.batch(range(len(test)))
    origin = provenance(hidden=(*(d for d in [options.data] if ":" in d), str(options.out)))
    kept: dict[tuple[str, float, int], tuple[Classifier, float]] = {}

    def measure(name: str, weight: float, seed: int, images: str, batch: Batch) -> None:
        key = {"arm": name, "weight": weight, "seed": seed, "images": images}
        if any(key.items() <= line.items() for line in _lines(place)):
            return
        if (name, weight, seed) not in kept:
            kept[name, weight, seed] = trained(ARMS[name], weight, seed, options.profile, dataset)
        classifier, seconds = kept[name, weight, seed]
        found = {k: round(v, 5) for k, v in judged(classifier, batch).items()}
        facts = {
            "epochs": round(ARMS[name].epochs * profile.rounds),
            "cpu_seconds": round(seconds, 1),
        }
        record({**key, **found, **facts, **origin}, place)

    for name, weights in profile.weights.items():
        for weight in weights:
            measure(name, weight, SEEDS[0], "held out", held)
    chosen = choose(_lines(place))
    for seed in SEEDS:
        for name, weight in chosen.items():
            measure(name, weight, seed, "test", test)
    summarize(_lines(place), chosen, place.with_suffix(".summary.json"))


def summarize(lines: list[dict], chosen: dict[str, float], place: Path) -> None:
    """Write means and paired differences over seeds, with 95 % intervals.

    Args:
        lines: All records.
        chosen: Arm to weight.
        place: Where to.
    """
    names = (
        *("accuracy", "median_radius", "median_radius_of_right", "mean_radius"),
        *("certified_at_0.1", "local_bound"),
    )
    table: dict[str, dict] = {}
    for arm, weight in chosen.items():
        row: dict = {"weight": weight}
        runs = {
            name: {
                line["seed"]: line
                for line in lines
                if line["arm"] == name and line["weight"] == w and line["images"] == "test"
            }
            for name, w in (("plain", 0.0), (arm, weight))
        }
        row["cpu_seconds"] = float(np.mean([runs[arm][s]["cpu_seconds"] for s in SEEDS]))
        for name in names:
            values = np.array([runs[arm][seed][name] for seed in SEEDS])
            plain = np.array([runs["plain"][seed][name] for seed in SEEDS])
            row[name] = _interval(values)
            if arm != "plain":
                row[f"{name} - plain"] = _interval(values - plain)
        table[arm] = row
    place.write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table, indent=1))


def _interval(values: np.ndarray) -> list[float]:
    # Mean and half width over the seeds.
    half = T_THREE * values.std(ddof=1) / np.sqrt(len(values))
    return [round(float(values.mean()), 5), round(float(half), 5)]


def _lines(place: Path) -> list[dict]:
    return [json.loads(x) for x in place.read_text().splitlines()] if place.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", choices=[*PROFILES], required=True)
    parser.add_argument("--data", required=True, help="parquet:PATH or digits")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run(options)


if __name__ == "__main__":
    main()
