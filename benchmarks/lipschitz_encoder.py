"""Train 1-Lipschitz contrastive encoders with prototype heads, and certify them on CIFAR-10.

`compare` trains one encoder per loss with the same network, views, optimizer and epochs on 45,000
training images and certifies 5,000 training images that were held out. `train` trains the encoder
of the best loss on all training images and saves it as a checkpoint; a run that was killed goes on
where it was. `evaluate` certifies and attacks a checkpoint on test images, and draws the curve.

Margin, temperature, learning rate and layers were chosen on held-out training images, in runs of 4
to 24 epochs; no test image was looked at before `evaluate`.

Run: python benchmarks/lipschitz_encoder.py train --data parquet:PATH --checkpoint FILE
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl import __version__, attacks
from robustcl.certify import prepared_model, product
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.objectives import misclassify
from robustcl.core.threat import Threat
from robustcl.data import Dataset, load_data
from robustcl.data.views import ViewOptions
from robustcl.models.architectures import build_backbone, embedding_size
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders.sorted_halves import to_halves
from robustcl.models.heads.fitting import fit_head
from robustcl.report.figures import STYLE
from robustcl.report.plots import radius_label
from robustcl.training import Files, TrainRecipe, train_encoder
from robustcl.training.robust.lipschitz import CLAIMED, end_lipschitz
from robustcl.workflows.models import checked_constant, constants_text

ARCHITECTURE = "lipschitz_convnet"
ARGUMENTS: dict[str, Any] = {"channels": 3, "image_size": 32, "size": "small"}
SHAPE = (3, 32, 32)
CLASSES = 10
RADII = tuple(pixels / 255.0 for pixels in (36, 72, 108, 255))
HELD_OUT = 5000
# Temperatures of losses on the sphere are those of their papers; margins are in pixel units.
LOSSES = {
    "nt_xent": "simclr:temperature=.5",
    "sup_con": "supcon:temperature=.1",
    "suncet": "suncet:temperature=.1",
    "margin_suncet": "margin_suncet:margin=1,temperature=.25",
    "semantic": "semantic:margin=1,temperature=.25,normalize=false",
    "batch_prototypes": "batch_prototypes:margin=1,temperature=.25",
    "batch_prototypes+nt_xent": "batch_prototypes:margin=1,temperature=.25+simclr:weight=.25",
}
RECIPE = TrainRecipe(
    loss=LOSSES["batch_prototypes"],
    robust="lipschitz",
    epochs=48,
    batch_size=256,
    optimizer="muon",
    learning_rate=0.02,
    momentum=0.95,
    weight_decay=0.0,
    views=ViewOptions(padding=2, flip=0.5),
    autocast=True,
    seed=0,
)


def trained(dataset: Dataset, recipe: TrainRecipe, files: Files | None = None) -> Classifier:
    """Train an encoder and fit a prototype head on the same images.

    Args:
        dataset: Training images.
        recipe: All options.
        files: Where the state goes.

    Returns:
        The classifier.
    """
    torch.manual_seed(recipe.seed)
    encoder = Encoder(build_backbone(ARCHITECTURE, ARGUMENTS), image_shape=SHAPE)
    train_encoder(encoder, dataset, recipe, files=files, progress=False)
    return fit_head(encoder, dataset, batch_size=500)


def measured(classifier: Classifier, dataset: Dataset, attacked: int = 0) -> dict[str, Any]:
    """Certify all images of a set by the product of layer norms, and attack some.

    Args:
        classifier: What is certified.
        dataset: Labeled images.
        attacked: Images, the first ones, that PGD attacks at each radius.

    Returns:
        Plain numbers; accuracies are shares of all images, and an abstention is a failure.
    """
    prepared = prepared_model(classifier, norm="l2", method="product")
    images, labels = dataset.tensor().float() / 255.0, torch.from_numpy(dataset.labels)
    begun = time.process_time()
    claim = product(classifier, images, prepared=prepared)
    seconds = time.process_time() - begun
    right = claim.predicted == labels
    radius = claim.radius.masked_fill(~right, 0.0)
    curve = np.linspace(0.0, 1.5, 61)
    found: dict[str, Any] = {
        "images": len(images),
        "clean_accuracy": float(right.double().mean()),
        "certified_accuracy": {_label(r): float((radius > r).double().mean()) for r in RADII},
        "median_certified_radius": float(radius.median()),
        "claimed_constant": CLAIMED,
        "computed_constant": prepared.bound.total,
        "certificate_seconds": round(seconds, 2),
        "curve": [[round(r, 4), float((radius > r).double().mean())] for r in curve],
    }
    if attacked:
        found["attacked"] = _attacked(
            classifier, images[:attacked], labels[:attacked], radius[:attacked]
        )
    return found


def _attacked(
    classifier: Classifier, images: Tensor, labels: Tensor, radius: Tensor
) -> dict[str, Any]:
    # A certified image that falls within its radius would be a defect: counted as a violation.
    objective = misclassify(classifier, labels)
    accuracy, violations = {}, 0
    for size in RADII:
        result = attacks.run_attack("pgd", objective, images, Threat("l2", size), batch_size=250)
        accuracy[_label(size)] = float((~result.success).double().mean())
        violations += int((result.success & (result.radius < radius)).sum())
    certified = {_label(r): float((radius > r).double().mean()) for r in RADII}
    return {
        "images": len(images),
        "attack": "pgd",
        "accuracy": accuracy,
        "certified_accuracy": certified,
        "violations": violations,
    }


def _label(radius: float) -> str:
    return f"{round(radius * 255)}/255"


def compare(dataset: Dataset, epochs: int, names: list[str], out: Path, made: dict) -> None:
    """Train one encoder per loss and certify training images that were held out.

    Args:
        dataset: The training split.
        epochs: Of each.
        names: Keys of `LOSSES`; one that the file has already is left out.
        out: Where records are appended.
        made: Provenance.
    """
    order = np.random.default_rng(0).permutation(len(dataset))
    seen, held = dataset.select(order[HELD_OUT:]), dataset.select(order[:HELD_OUT])
    lines = out.read_text().splitlines() if out.exists() else []
    done = {(line["loss"], line["epochs"]) for line in map(json.loads, lines)}
    for name in names:
        recipe = replace(RECIPE, loss=LOSSES[name], epochs=epochs)
        if (recipe.loss, epochs) in done:
            continue
        begun = time.process_time()
        classifier = trained(seen, recipe)
        seconds = round(time.process_time() - begun, 1)
        found = measured(classifier, held)
        row = {"part": "compare", "name": name, "loss": recipe.loss, "epochs": epochs}
        row |= {"split": "held-out training images", "training_processor_seconds": seconds}
        record(row | found | made, out)


def train(
    data: str, checkpoint: Path, epochs: int, *, seed: int = 0, as_it_is: bool = False
) -> None:
    """Train the encoder on all training images and save it.

    Args:
        data: The data set.
        checkpoint: The file; a state beside it lets a killed run go on.
        epochs: Passes over the images.
        seed: Of weights, order and views.
        as_it_is: Save what a run that was stopped has reached, and train no more.
    """
    recipe = replace(RECIPE, epochs=epochs, seed=seed)
    dataset = load_data(data, split="train")
    state = checkpoint.with_suffix(".state.safetensors")
    if as_it_is:
        classifier = fit_head(reached(state), dataset, batch_size=500)
    else:
        files = Files(state=state, resume=state.exists(), log=checkpoint.with_suffix(".csv"))
        classifier = trained(dataset, recipe, files)
    facts = {"weights_seed": recipe.seed, "data": dataset.name, "stopped_early": as_it_is}
    description = Description(
        architecture=ARCHITECTURE,
        arguments=ARGUMENTS,
        image_shape=SHAPE,
        embedding_size=embedding_size(classifier.encoder.backbone, SHAPE),
        recipe={**recipe.to_dict(), **facts},
        version=__version__,
        lipschitz_constant=CLAIMED,
    )
    computed = checked_constant(classifier.encoder, description)
    assert computed is not None
    print(constants_text(CLAIMED, computed), flush=True)
    save_checkpoint(checkpoint, classifier, description)


def reached(state: Path) -> Encoder:
    """Return the encoder of a run that is not over, as `train_encoder` would end it now.

    Args:
        state: What the run has saved last.

    Returns:
        The encoder.
    """
    encoder = Encoder(build_backbone(ARCHITECTURE, ARGUMENTS), image_shape=SHAPE)
    backbone = encoder.backbone
    assert isinstance(backbone, nn.Sequential)
    to_halves(backbone)
    weights = {k: v for k, v in load_file(state).items() if k.startswith("model.")}
    encoder.load_state_dict({k.removeprefix("model."): v for k, v in weights.items()})
    end_lipschitz(backbone)
    return encoder.eval()


def draw(found: dict[str, Any], place: Path) -> None:
    """Draw certified and attacked accuracy against the radius.

    Args:
        found: A record of `evaluate`.
        place: The picture.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.style.context(STYLE):
        figure, panel = plt.subplots(figsize=(5.0, 3.4))
        label = f"certified, all {found['images']:,} test images"
        panel.plot(*zip(*found["curve"], strict=True), label=label)
        attacked = found["attacked"]
        # Both on the same images, as few images alone move a rate by more than the attack does.
        for name, style in (("certified_accuracy", "-"), ("accuracy", "--")):
            kind = "PGD" if name == "accuracy" else "certified"
            label = f"{kind}, the first {attacked['images']}"
            panel.plot(RADII, list(attacked[name].values()), style, marker="o", label=label)
        panel.set(xlabel=radius_label("l2"), ylabel="accuracy", xlim=(0, 1.1), ylim=(0, 1))
        panel.legend()
        figure.savefig(place, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["compare", "train", "evaluate"])
    parser.add_argument("--data", required=True, help="32x32 RGB images, e.g. parquet:PATH")
    parser.add_argument("--checkpoint", type=Path, help="of train and evaluate, .safetensors")
    parser.add_argument("--epochs", type=int, help="48 by default, 5 in compare")
    parser.add_argument("--seed", type=int, default=RECIPE.seed, help="of train")
    parser.add_argument("--as-it-is", action="store_true", help="save a run that was stopped")
    parser.add_argument("--losses", nargs="*", choices=list(LOSSES), default=list(LOSSES))
    parser.add_argument("--attacked", type=int, default=2000, help="test images PGD attacks")
    parser.add_argument("--out", type=Path, help="JSON lines of compare and evaluate")
    options = parser.parse_args()
    made = provenance(hidden=(options.data, str(options.checkpoint), str(options.out)))
    if options.part == "train":
        epochs = options.epochs or RECIPE.epochs
        more = {"seed": options.seed, "as_it_is": options.as_it_is}
        train(options.data, options.checkpoint, epochs, **more)
    elif options.part == "compare":
        dataset = load_data(options.data, split="train")
        compare(dataset, options.epochs or 5, options.losses, options.out, made)
    else:
        loaded = load_checkpoint(options.checkpoint)
        assert loaded.classifier is not None
        found = measured(loaded.classifier, load_data(options.data, split="test"), options.attacked)
        row = {"part": "evaluate", "split": "test", "checkpoint_sha256": loaded.hash}
        row["seed"] = loaded.description.recipe["weights_seed"]
        record(row | found | made, options.out)
        draw(found, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
