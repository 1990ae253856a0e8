"""Certify noise-trained encoders by three smoothed classifiers on the same samples.

Per sigma, four encoders are trained on noisy views of 16,000 labeled CIFAR-10 training images
(`noise:sigma=...`): by SupCon at two temperatures, or towards the vertices of a simplex, with and
without the term for consistency. A prototype head is fitted on noisy embeddings of the same images.
2,000 training images are held out; on 300 of them the encoder is chosen (the largest average
certified radius, mean over the three forms, n = 1,000), and t of the clipped form. Test images are
then certified once: the forms 'mean', 'vote' and 'clip' look at the same noisy outputs.

The three forms are three smoothed classifiers. Each claim is its own, wrong with probability at
most alpha per image; the larger radius of two forms is no certificate of either.

One JSON line per image and sigma in images.jsonl, which is where an interrupted run goes on, and a
summary with 95 % intervals (bootstrap over images; for differences, of pairs).

Run: python benchmarks/noise_trained_smoothing.py certify --data parquet:PATH --cache DIR \
         --sigma 0.25 --out FOLDER; the same with 0.5; then summarize --out FOLDER
     (5 minutes of processor time per sigma on one core)
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.label_fraction import MEAN, STD
from benchmarks.provenance import provenance, record
from robustcl.certify import smoothing
from robustcl.certify._smoothing import _certify
from robustcl.certify.smoothed_margins import Form, base_function, smoothed
from robustcl.certify.smoothing_noise import best_clip
from robustcl.certify.smoothing_samples import noise_streams, noisy_outputs
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.modules import eval_mode
from robustcl.data import Dataset, load_data
from robustcl.data.views import ViewOptions
from robustcl.models.heads.fitting import fit_head
from robustcl.training import TrainRecipe, train_encoder

FORMS: tuple[Form, ...] = ("mean", "vote", "clip")
RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
# A higher temperature asks for larger angles between classes, in which the mean's radius grows.
CANDIDATES = (
    ("supcon:temperature=0.1", 0.0),
    ("supcon:temperature=0.5", 0.0),
    ("semantic:temperature=0.5", 0.0),
    ("semantic:temperature=0.5", 1.0),
)
IMAGES, HELD_OUT, JUDGED, TESTED = 16_000, 2_000, 300, 500
N, N_CHOICE, SELECT, ALPHA, BATCH = 10_000, 1_000, 100, 0.001, 256
RECIPE = TrainRecipe(
    epochs=8,
    batch_size=256,
    learning_rate=3e-3,
    views=ViewOptions(crop_scale=(0.5, 1.0), flip=0.5),
)
RESAMPLES = 10_000


def network() -> nn.Sequential:
    """Build two convolutions with BatchNorm and a linear layer: 100,000 images a second on a core.

    Returns:
        Images (B, 3, 32, 32) to (B, 64), with fresh weights.
    """
    return nn.Sequential(
        nn.Conv2d(3, 32, 6, stride=4, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 16, 64),
    )


def trained(
    sigma: float, loss: str, consistency: float, dataset: Dataset, cache: Path
) -> Classifier:
    """Read a classifier's weights from the cache, or train it.

    Args:
        sigma: Of the noise.
        loss: Of `TrainRecipe`.
        consistency: Weight of the consistency term.
        dataset: Training images.
        cache: Folder of the weights.

    Returns:
        The classifier, in eval mode.
    """
    robust = f"noise:sigma={sigma:g},consistency={consistency:g}"
    recipe = replace(RECIPE, loss=loss, robust=robust)
    torch.manual_seed(recipe.seed)
    encoder = Encoder(network(), image_shape=dataset.image_shape, mean=MEAN, std=STD)
    place = cache / f"{loss.replace(':', '-')}-{sigma:g}-{consistency:g}.safetensors"
    stated = json.dumps({**recipe.to_dict(), "data": dataset.hash()}, sort_keys=True)
    if place.exists() and _stated(place) == stated:
        encoder.load_state_dict(load_file(place))
    else:
        begun = time.process_time()
        log = train_encoder(encoder, dataset, recipe, progress=False)
        place.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.contiguous() for name, value in encoder.state_dict().items()}
        save_file(tensors, place, metadata={"recipe": stated})
        said = {name: round(value, 3) for name, value in log.rows[-1].items()}
        print(json.dumps({**said, "cpu_seconds": round(time.process_time() - begun)}), flush=True)
    return fit_head(encoder, dataset, noise=sigma)


def outputs(
    classifier: Classifier, images: Tensor, seeds: list[int], sigma: float, count: int
) -> Iterator[np.ndarray]:
    """Draw the class similarities of noisy copies.

    Args:
        classifier: With a prototype head.
        images: (B, C, H, W).
        seeds: One per image.
        sigma: Of the noise.
        count: Copies per image.

    Yields:
        (count, K) per image.
    """
    with torch.no_grad(), eval_mode(classifier):
        function = base_function(classifier, "mean")
        streams = noise_streams(images, seeds)
        for rows in noisy_outputs(
            function, images, streams, sigma=sigma, count=count, batch_size=BATCH
        ):
            yield rows.numpy()


def certified(classifier: Classifier, rows: np.ndarray, sigma: float, clip: float) -> dict:
    """Certify one image by all forms on the same samples.

    Args:
        classifier: With a prototype head, whose scores have no offset.
        rows: (SELECT + n, K) outputs.
        sigma: Of the noise.
        clip: t of the form 'clip'.

    Returns:
        Form to class (-1: abstained) and radius.
    """
    found = {}
    for form in FORMS:
        terms = smoothed(classifier, form=form, sigma=sigma, clip=clip)
        seen = rows.argmax(axis=1)[:, None] if form == "vote" else rows
        top, radius, _ = _certify(seen[:SELECT], seen[SELECT:], terms, ALPHA, "betting")
        found[form] = {"predicted": int(top), "radius": round(float(radius), 6)}
    mean = rows[SELECT:].mean(axis=0)
    return {**found, "mean_similarity": round(float(np.sort(mean)[-1]), 4)}


def choose(sigma: float, data: str, cache: Path) -> tuple[Classifier, dict]:
    """Train all candidates, and choose one, and t, on held-out training images.

    Args:
        sigma: Of the noise.
        data: The data set.
        cache: Folder of weights.

    Returns:
        The classifier, and what was chosen and why.
    """
    whole = load_data(data, split="train", limit=IMAGES + HELD_OUT, draw="first")
    dataset, held = whole.select(slice(0, IMAGES)), whole.select(slice(IMAGES, None))
    batch = held.batch(range(JUDGED))
    seeds = [10_000_000 + number for number in range(JUDGED)]
    candidates = []
    for loss, consistency in CANDIDATES:
        classifier = trained(sigma, loss, consistency, dataset, cache)
        samples = [*outputs(classifier, batch.images, seeds, sigma, SELECT + N_CHOICE)]
        terms = smoothed(classifier, form="clip", sigma=sigma, clip=0.0)
        clip = best_clip([rows[:SELECT] for rows in samples], terms, n=N, alpha=ALPHA)
        lines = [certified(classifier, rows, sigma, clip) for rows in samples]
        radii = {form: float(_correct_radii(lines, form, batch.labels).mean()) for form in FORMS}
        fact = {"loss": loss, "consistency": consistency, "clip": clip, "held_out": radii}
        print(json.dumps(fact), flush=True)
        candidates.append((sum(radii.values()), classifier, fact))
    best = max(range(len(candidates)), key=lambda number: candidates[number][0])
    facts = [fact for _, _, fact in candidates]
    return candidates[best][1], {"chosen": facts[best], "candidates": facts}


def certify_all(options: argparse.Namespace) -> None:
    """Certify the test images of one sigma, but those that are done.

    Args:
        options: Of the command line.
    """
    sigma, place = options.sigma, options.out / "images.jsonl"
    begun = time.process_time()
    classifier, facts = choose(sigma, options.data, options.cache)
    training = time.process_time() - begun
    test = load_data(options.data, split="test", limit=TESTED, draw="first")
    chosen = facts["chosen"]
    model = "{loss} consistency={consistency:g} clip={clip:g}".format(**chosen)
    key = {"sigma": sigma, "model": model}
    done = {line["index"] for line in _lines(place) if key.items() <= line.items()}
    left = [number for number in range(len(test)) if number not in done]
    clip = chosen["clip"]
    _check_agreement(classifier, test.batch(range(2)).images, sigma, clip)
    begun = time.process_time()
    for start in range(0, len(left), 20):
        batch = test.batch(left[start : start + 20])
        seeds = batch.index.tolist()
        drawn = outputs(classifier, batch.images, seeds, sigma, SELECT + N)
        for index, label, rows in zip(seeds, batch.labels.tolist(), drawn, strict=True):
            found = certified(classifier, rows, sigma, clip)
            _append(place, {**key, "index": index, "label": label, **found})
    seconds = time.process_time() - begun
    fact = {
        "sigma": sigma,
        **facts,
        "recipe": {**RECIPE.to_dict(), "images": IMAGES},
        "n": N,
        "alpha": ALPHA,
        "cpu_seconds": {"choice": round(training), "certification": round(seconds)},
        "images_in_this_run": len(left),
        **provenance(hidden=(options.data, str(options.cache), str(options.out))),
    }
    record(fact, options.out / "runs.jsonl")


def summarize(folder: Path) -> None:
    """Write certified accuracies and paired differences, with 95 % intervals.

    Args:
        folder: Of the records.
    """
    lines, rows = _lines(folder / "images.jsonl"), []
    for sigma in sorted({line["sigma"] for line in lines}):
        chosen = sorted((x for x in lines if x["sigma"] == sigma), key=lambda x: x["index"])
        labels = torch.tensor([line["label"] for line in chosen])
        radii = {form: _correct_radii(chosen, form, labels) for form in FORMS}
        (model,) = {line["model"] for line in chosen}
        row: dict = {"sigma": sigma, "model": model, "images": len(chosen)}
        row["abstained"] = {f: sum(x[f]["predicted"] < 0 for x in chosen) for f in FORMS}
        for form in FORMS:
            curve = {f"{r:g}": _interval((radii[form] >= r) & (radii[form] > 0)) for r in RADII}
            row[form] = {"certified_accuracy": curve, "average_radius": _interval(radii[form])}
        for one, other in (("mean", "vote"), ("clip", "vote"), ("clip", "mean")):
            row[f"{one} - {other}"] = {
                "certified_accuracy": {
                    f"{r:g}": _interval(1.0 * (radii[one] >= r) - 1.0 * (radii[other] >= r))
                    for r in RADII[1:]
                },
                "average_radius": _interval(radii[one] - radii[other]),
            }
        row["mean_similarity"] = _interval(np.array([x["mean_similarity"] for x in chosen]))
        rows.append(row)
        print(json.dumps(row))
    (folder / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")


def _correct_radii(lines: list[dict], form: Form, labels: Tensor) -> np.ndarray:
    # 0 where the smoothed prediction is wrong or the claim is to abstain.
    pairs = zip(lines, labels.tolist(), strict=True)
    return np.array([x[form]["radius"] if x[form]["predicted"] == y else 0.0 for x, y in pairs])


def _interval(values: np.ndarray) -> list[float]:
    draws = np.random.default_rng(0)
    rows = draws.integers(0, len(values), (RESAMPLES, len(values)))
    means = np.asarray(values, dtype=float)[rows].mean(axis=1)
    ends = np.quantile(means, (0.025, 0.975))
    return [round(float(x), 4) for x in (np.mean(values), *ends)]


def _check_agreement(classifier: Classifier, images: Tensor, sigma: float, clip: float) -> None:
    # What is measured here must be what `certify.smoothing` claims.
    lines = [
        certified(classifier, rows, sigma, clip)
        for rows in outputs(classifier, images, [0, 1], sigma, SELECT + N)
    ]
    for form in FORMS:
        claim = smoothing(classifier, images, sigma=sigma, n=N, n_select=SELECT, alpha=ALPHA,
                          form=form, clip=clip, batch_size=BATCH)  # fmt: skip
        for number, line in enumerate(lines):
            assert line[form]["predicted"] == int(claim.predicted[number])
            assert abs(line[form]["radius"] - float(claim.radius[number])) < 1e-5


def _stated(place: Path) -> str:
    with safe_open(place, "pt") as file:
        return (file.metadata() or {}).get("recipe", "")


def _lines(place: Path) -> list[dict]:
    return [json.loads(x) for x in place.read_text().splitlines()] if place.exists() else []


def _append(place: Path, line: dict) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a") as file:
        file.write(json.dumps(line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("certify", "summarize"))
    parser.add_argument("--data", help="e.g. parquet:PATH")
    parser.add_argument("--cache", type=Path, help="folder of the weights")
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.what == "summarize":
        summarize(options.out)
        return
    if not options.data or not options.cache:
        parser.error("certify needs --data and --cache")
    torch.set_num_threads(1)
    certify_all(options)


if __name__ == "__main__":
    main()
