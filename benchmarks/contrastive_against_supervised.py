"""Are contrastive encoders more robust than the same network trained with cross-entropy?

Four losses (cross-entropy, SimCLR, SupCon, SimCLR + SuNCEt), each plain, with a gradient penalty
and with adversarial training, three seeds. All arms have the same network, images, labels, views,
batches, optimizer and epochs; temperatures are those of the papers. Every arm gets the same heads
afterwards, fitted on the clean training images: prototypes, which carry AutoAttack and
certificates, and a linear probe. Cross-entropy is also judged with the class layer it was trained
with, on the raw embedding: that is the ordinary supervised network.

The weight of the penalty and the budget of adversarial training are chosen once for all losses, on
cross-entropy and SimCLR at seed 0 and a quarter of the epochs, by --choose: the candidate with the
highest PGD accuracy on 500 training images that no arm trains on, averaged over both losses and all
budgets. No test image is seen.

One JSON line per model; a model that is already in the file is not repeated, so the study goes on
where it was cut. `contrastive_against_supervised_summary.py` turns the lines into a verdict. The
images are re-encoded as JPEG of quality 75, so figures are not comparable with the literature.

Run: OMP_NUM_THREADS=1 python benchmarks/contrastive_against_supervised.py --data parquet:DIR
     --choice CHOICE.jsonl --choose, then the same without --choose and with --out FILE.jsonl
     (36 models; two processes may share the work by --only)
"""

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.judge_robustness import BUDGETS, PGD, Depth, judged, survived
from benchmarks.provenance import provenance, record
from robustcl import attacks
from robustcl.core.classifier import Classifier, Encoder
from robustcl.data import Batch, Dataset, load_data
from robustcl.data.views import COLOR_VIEWS
from robustcl.models.encoders import strided_convnet
from robustcl.models.heads import LinearHead
from robustcl.models.heads.fitting import fit_head
from robustcl.training import TrainRecipe, train_encoder

IMAGES, HELD_OUT = 5000, 500
TEST_IMAGES = 1000
SEEDS = (0, 1, 2)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
RECIPE = TrainRecipe(epochs=20, batch_size=128, learning_rate=2e-3, views=COLOR_VIEWS)
LOSSES = {
    "cross_entropy": "cross_entropy",
    "simclr": "simclr:temperature=0.5",
    "supcon": "supcon:temperature=0.1",
    "suncet": "simclr:temperature=0.5+suncet:temperature=0.1",
}
CANDIDATES: dict[str, tuple[str, ...]] = {
    "plain": ("",),
    "penalty": tuple(f"penalty:weight={weight},norm=l2" for weight in (0.03, 0.3, 3)),
    "adversarial": tuple(f"acl:eps={eps}/255,steps=1" for eps in (2, 4, 8)),
}
CHOSEN_ON = ("cross_entropy", "simclr")  # with labels and without
CHOICE = Path(__file__).parent / "results" / "contrastive_against_supervised" / "choice.jsonl"


def trained(
    loss: str, robust: str, seed: int, epochs: int, train: Dataset
) -> tuple[Encoder, LinearHead | None, dict[str, Any]]:
    """Train one model.

    Args:
        loss: A key of `LOSSES`.
        robust: As in `TrainRecipe`.
        seed: Of weights, order and views.
        epochs: Passes over the images.
        train: The training images.

    Returns:
        The encoder, the class layer of cross-entropy, and what is recorded.
    """
    recipe = replace(RECIPE, loss=LOSSES[loss], robust=robust, seed=seed, epochs=epochs)
    torch.manual_seed(seed)
    encoder = Encoder(strided_convnet(), image_shape=train.image_shape, mean=MEAN, std=STD)
    begun = time.process_time()
    log = train_encoder(encoder, train, recipe, progress=False, attack=attacks.inner_ascent)
    facts = {
        "loss": loss,
        "robust": robust,
        "seed": seed,
        "recipe": recipe.to_dict(),
        "images": len(train),
        "training_cpu_seconds": round(time.process_time() - begun, 1),
        "final": {name: round(value, 4) for name, value in log.rows[-1].items()},
        "spread": round(log.spread, 4),
    }
    return encoder, log.head, facts


def run_one(
    loss: str, kind: str, robust: str, seed: int, data: tuple[Dataset, Batch], depth: Depth
) -> dict[str, Any]:
    """Train one model and judge it with all its heads.

    Args:
        loss: A key of `LOSSES`.
        kind: A key of `CANDIDATES`.
        robust: As in `TrainRecipe`.
        seed: Of weights, order and views.
        data: Training images, and the test images.
        depth: How much is measured.

    Returns:
        Plain values.
    """
    train, test = data
    encoder, head, facts = trained(loss, robust, seed, RECIPE.epochs, train)
    begun = time.process_time()
    heads = {"prototype": judged(fit_head(encoder, train), test, depth)}
    probe = fit_head(encoder, train, kind="linear")
    heads["linear"] = judged(probe, test, replace(depth, autoattack=0))
    if head is not None:
        own = Classifier(encoder, head, class_names=train.class_names, normalizes=False).eval()
        # Of the ordinary network AutoAttack is wanted where it is the baseline of the question.
        less = depth if kind == "plain" else replace(depth, autoattack=0)
        heads["own"] = judged(own, test, less)
    return {
        **facts,
        "kind": kind,
        "test_images": len(test),
        "autoattack_images": depth.autoattack,
        "budgets": BUDGETS,
        "pgd_options": PGD,
        "heads": heads,
        "judging_cpu_seconds": round(time.process_time() - begun, 1),
    }


def candidate_score(loss: str, robust: str, train: Dataset, held: Batch) -> dict[str, Any]:
    """Train one candidate for a quarter of the epochs and attack it on held-out training images.

    Args:
        loss: A key of `LOSSES`.
        robust: As in `TrainRecipe`.
        train: The training images.
        held: Training images that it does not see.

    Returns:
        Plain values; `score` is the mean PGD accuracy over all budgets.
    """
    encoder, _, facts = trained(loss, robust, SEEDS[0], RECIPE.epochs // 4, train)
    found = judged(fit_head(encoder, train), held, Depth(autoattack=0))
    accuracies = {
        f"{norm} {eps:.4g}": statistics.fmean(survived(found["pgd"][norm], number + 1))
        for norm, budgets in BUDGETS.items()
        for number, eps in enumerate(budgets)
    }
    score = statistics.fmean(accuracies.values())
    return {**facts, "clean": found["clean"], "pgd": accuracies, "score": score}


def chosen(kind: str, place: Path) -> str:
    """Read which candidate won.

    Args:
        kind: A key of `CANDIDATES`.
        place: The lines of --choose.

    Returns:
        The robust training of all arms of this kind.

    Raises:
        SystemExit: When a candidate is missing.
    """
    if kind == "plain":
        return ""
    scores: dict[str, list[float]] = defaultdict(list)
    for line in lines_of(place):
        scores[line["robust"]].append(line["score"])
    if any(len(scores[robust]) < len(CHOSEN_ON) for robust in CANDIDATES[kind]):
        raise SystemExit(f"{place} lacks candidates of {kind!r}; run --choose first")
    return max(CANDIDATES[kind], key=lambda robust: statistics.fmean(scores[robust]))


def lines_of(place: Path | None) -> list[dict[str, Any]]:
    """Read a file of JSON lines.

    Args:
        place: The file.

    Returns:
        The lines; none where there is no file.
    """
    if place is None or not place.exists():
        return []
    return [json.loads(line) for line in place.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--choice", type=Path, default=CHOICE, help="lines of --choose")
    parser.add_argument("--choose", action="store_true", help="compare candidates, append there")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--only", nargs="+", choices=[*LOSSES, *CANDIDATES], help="losses, kinds")
    parser.add_argument("--images", type=int, default=64, help="for AutoAttack and certificates")
    parser.add_argument("--epochs", type=int, help="a miniature, to try the script")
    parser.add_argument("--training-images", type=int, default=IMAGES)
    parser.add_argument("--held-out-images", type=int, default=HELD_OUT)
    parser.add_argument("--test-images", type=int, default=TEST_IMAGES)
    options = parser.parse_args()
    if options.epochs:
        globals()["RECIPE"] = replace(RECIPE, epochs=options.epochs)
    count = options.training_images
    both = load_data(
        options.data, split="train", limit=count + options.held_out_images, draw="first"
    )
    train = both.select(slice(0, count))
    wanted = options.only or []
    losses = [name for name in LOSSES if name in wanted] or list(LOSSES)
    kinds = [name for name in CANDIDATES if name in wanted] or list(CANDIDATES)
    origin = provenance(hidden=(options.data, str(options.out), str(options.choice)))
    if options.choose:
        held = both.batch(range(count, count + options.held_out_images))
        skip = {(line["loss"], line["robust"]) for line in lines_of(options.choice)}
        for kind, loss in product(kinds, CHOSEN_ON):
            for robust in CANDIDATES[kind]:
                if robust and loss in losses and (loss, robust) not in skip:
                    found = candidate_score(loss, robust, train, held)
                    record({**found, **origin}, options.choice)
        return
    count = options.test_images
    test = load_data(options.data, split="test", limit=count, draw="first").batch(range(count))
    skip = {(line["loss"], line["kind"], line["seed"]) for line in lines_of(options.out)}
    # Seed by seed, so that an interrupted study has every arm.
    for seed, kind, loss in product(options.seeds, kinds, losses):
        if (loss, kind, seed) not in skip:
            robust = chosen(kind, options.choice)
            found = run_one(loss, kind, robust, seed, (train, test), Depth(options.images))
            record({**found, **origin}, options.out)


if __name__ == "__main__":
    main()
