"""Attack smoothed models inside their certified radii; count what fresh samples confirm.

An audit is an image, a smoothed model (form and sigma) and an attack of `smoothed_attacks`, all of
which attack the smoothed model and not its base. Each image is certified by `certify.smoothing`
(n = 1,000, alpha = .001); the attack may go to .999 of that radius, in no pixel box. Where it ends,
1,000 fresh noisy copies pick the other class that does best; where that other class leads, or
could (three standard errors), 20,000 more are drawn, and the violation is confirmed when they show
at level 1e-6 that the smoothed model does not answer the certified class there: by the exact
binomial test of the votes for the other class against those for the class, or by the empirical
Bernstein bound of the mean that the form compares with its threshold. Where the other class leads
on the 20,000 and the test does not say so, the audit is undecided.

A claim may be wrong with probability alpha, so violated claims are compared with the .99 quantile
of the binomial distribution of the images tried. `--factors` inflates the radii: the control, which
has to find violations.

The networks are trained here on noisy digits, one per sigma, or come by --checkpoint. One JSON line
per image, form, sigma and factor in claims.jsonl, where an interrupted run goes on.

Run: python benchmarks/smoothing_audits.py audit --cache DIR --out DIR
     python benchmarks/smoothing_audits.py audit --factors 1.5 2 --images 60 --cache DIR --out DIR
     python benchmarks/smoothing_audits.py summarize --out DIR
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
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.stats import binom
from torch import Tensor

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.judge_smoothed import BATCH, BETA, CONFIRM, SCREEN, judge
from benchmarks.provenance import provenance, record
from benchmarks.smoothed_attacks import ATTACKS, Target
from robustcl.certify import choose_clip, smoothing
from robustcl.certify.smoothed_margins import Form, Smoothed, smoothed
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.modules import eval_mode
from robustcl.core.seeds import example_seed
from robustcl.data import Dataset, load_data
from robustcl.data.views import ViewOptions
from robustcl.models.checkpoint import load_checkpoint
from robustcl.models.encoders import small_convnet
from robustcl.models.heads.fitting import fit_head
from robustcl.training import TrainRecipe, train_encoder

FORMS: tuple[Form, ...] = ("vote", "mean", "clip")
N, SELECT, ALPHA = 1_000, 100, 0.001
INSIDE, QUANTILE = 0.999, 0.99
BUNCH = 60  # images attacked at once
CHOSEN_ON = 60  # training images on which t of the clipped form is chosen
ROBUST = "noise:sigma=SIGMA,consistency=1"
RECIPE = TrainRecipe(
    loss="semantic:temperature=0.5",
    epochs=25,
    batch_size=128,
    learning_rate=3e-3,
    views=ViewOptions(crop_scale=(0.7, 1.0), flip=0.0),
)


def trained(sigma: float, dataset: Dataset, cache: Path) -> Classifier:
    """Read a small network's weights from the cache, or train it on noisy views.

    Args:
        sigma: Of the noise.
        dataset: Training images.
        cache: Folder of the weights.

    Returns:
        The classifier, with a prototype head fitted on noisy embeddings, in eval mode.
    """
    recipe = replace(RECIPE, robust=ROBUST.replace("SIGMA", f"{sigma:g}"))
    stated = json.dumps({**recipe.to_dict(), "data": dataset.hash()}, sort_keys=True)
    channels, size, _ = dataset.image_shape
    torch.manual_seed(recipe.seed)
    network = small_convnet(channels=channels, image_size=size, width=8, embedding_size=32)
    encoder = Encoder(network, image_shape=dataset.image_shape)
    place = cache / f"smoothing-audits-{sigma:g}.safetensors"
    if place.exists() and _stated(place) == stated:
        encoder.load_state_dict(load_file(place))
    else:
        train_encoder(encoder, dataset, recipe, progress=False)
        place.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.contiguous() for name, value in encoder.state_dict().items()}
        save_file(tensors, place, metadata={"recipe": stated})
    return fit_head(encoder, dataset, noise=sigma).eval()


def audit(
    classifier: Classifier, images: Tensor, index: list[int], terms: Smoothed, factor: float
) -> list[dict[str, Any]]:
    """Certify images and attack the smoothed model inside the radii.

    Args:
        classifier: The base classifier.
        images: (B, C, H, W).
        index: Their numbers in the data set.
        terms: The smoothed model.
        factor: By which radii are inflated; 1 for the claims as they are.

    Returns:
        A line per image: predicted (-1: abstained), radius, by attack the other class's lead where
        it ended, and the attacks that violated the claim or left it undecided.
    """
    name = f"{terms.form}/{terms.sigma:g}"
    seeds = [example_seed(0, number, f"{name}/certify") for number in index]
    claim = smoothing(
        classifier, images, seeds=seeds, sigma=terms.sigma, n=N, n_select=SELECT, alpha=ALPHA,
        form=terms.form, clip=terms.clip or 0.25, batch_size=BATCH,
    )  # fmt: skip
    lines: list[dict[str, Any]] = [
        {
            "index": number,
            "predicted": int(top),
            "radius": round(float(radius), 6),
            "leads": {},
            "violated": [],
            "undecided": [],
        }
        for number, top, radius in zip(index, claim.predicted, claim.radius, strict=True)
    ]
    rows = torch.nonzero((claim.radius > 0) & claim.radius.isfinite())[:, 0]
    if not len(rows):
        return lines
    with eval_mode(classifier):
        for attack, run in ATTACKS.items():
            purpose = f"{name}/{attack}/{factor:g}"
            target = Target(
                classifier, terms, images[rows], claim.predicted[rows],
                (INSIDE * factor * claim.radius[rows]).float(),
                [example_seed(0, index[row], purpose) for row in rows.tolist()],
            )  # fmt: skip
            points = target.threat.project(target.images, run(target))
            for row, said in zip(rows.tolist(), judge(target, points, purpose), strict=True):
                lines[row]["leads"][attack] = said.lead
                if said.verdict != "held":
                    lines[row][said.verdict].append(attack)
    return lines


def audit_all(options: argparse.Namespace) -> None:
    """Audit every image, form, sigma and factor that is not done.

    Args:
        options: Of the command line.
    """
    begun, place = time.process_time(), options.out / "claims.jsonl"
    train = load_data(options.data, split="train", limit=options.training_images, draw="first")
    test = load_data(options.data, split="test", limit=options.images, draw="first")
    model, clips, audits = options.data.partition(":")[0], {}, 0
    if options.checkpoint:
        model = f"{model}, {options.checkpoint.name}"
    for sigma in options.sigmas:
        classifier = _classifier(options, sigma, train)
        chosen_on = train.batch(range(CHOSEN_ON)).images
        clips[f"{sigma:g}"] = choose_clip(
            classifier, chosen_on, sigma=sigma, n=N, n_select=SELECT, alpha=ALPHA
        )
        for form in options.forms:
            terms = smoothed(classifier, form=form, sigma=sigma, clip=clips[f"{sigma:g}"])
            for factor in options.factors:
                key = {"model": model, "sigma": sigma, "form": form, "factor": factor}
                audits += _audit_rest(place, key, classifier, test, terms)
                spent = round(time.process_time() - begun)
                print(json.dumps({**key, "cpu_seconds": spent}), flush=True)
    fact = {
        "model": model, "sigmas": options.sigmas, "forms": options.forms, "clip": clips,
        "factors": options.factors, "images": len(test), "n": N, "n_select": SELECT,
        "alpha": ALPHA, "inside": INSIDE, "screen": SCREEN, "confirm": CONFIRM, "level": BETA,
        "recipe": None if options.checkpoint else {**RECIPE.to_dict(), "robust": ROBUST},
        "audits_in_this_run": audits,
        "cpu_seconds": round(time.process_time() - begun),
        **provenance(hidden=_hidden(options)),
    }  # fmt: skip
    record(fact, options.out / "runs.jsonl")


def _audit_rest(
    place: Path, key: dict[str, Any], classifier: Classifier, test: Dataset, terms: Smoothed
) -> int:
    done = {line["index"] for line in _lines(place) if key.items() <= line.items()}
    left, audits = [number for number in range(len(test)) if number not in done], 0
    for start in range(0, len(left), BUNCH):
        batch = test.batch(left[start : start + BUNCH])
        index = batch.index.tolist()
        lines = audit(classifier, batch.images, index, terms, key["factor"])
        audits += sum(len(line["leads"]) for line in lines)
        _append(place, [{**key, **line} for line in lines])
    return audits


def summarize(folder: Path) -> list[dict[str, Any]]:
    """Count audits and violations by model, factor and form, and write them down.

    Args:
        folder: Of the records.

    Returns:
        A row per model, factor and form, and before them one for all forms.
    """
    lines, rows = _lines(folder / "claims.jsonl"), []
    for model, factor in sorted({(line["model"], line["factor"]) for line in lines}):
        part = [x for x in lines if (x["model"], x["factor"]) == (model, factor)]
        forms = {form: [x for x in part if x["form"] == form] for form in FORMS}
        for form, chosen in {"all": part, **forms}.items():
            if chosen:
                rows.append({"model": model, "factor": factor, "form": form, **_counts(chosen)})
                print(json.dumps(rows[-1]))
    (folder / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def _counts(lines: list[dict[str, Any]]) -> dict[str, Any]:
    made = [x for x in lines if x["leads"]]
    violated = [name for x in made for name in x["violated"]]
    radii = {
        f"{sigma:g}": round(float(np.median([x["radius"] for x in made if x["sigma"] == sigma])), 4)
        for sigma in sorted({x["sigma"] for x in made})
    }
    return {
        "tried": len(lines), "claims": len(made),
        "audits": sum(len(x["leads"]) for x in made), "violated_audits": len(violated),
        "violated_claims": sum(bool(x["violated"]) for x in made),
        "allowed": int(binom.ppf(QUANTILE, len(lines), ALPHA)), "quantile": QUANTILE,
        "undecided_audits": sum(len(x["undecided"]) for x in made),
        "rival_ahead_on_the_screen": sum(v > 0 for x in made for v in x["leads"].values()),
        "violated_by_attack": {name: violated.count(name) for name in ATTACKS},
        "median_radius_by_sigma": radii,
    }  # fmt: skip


def _classifier(options: argparse.Namespace, sigma: float, train: Dataset) -> Classifier:
    if not options.checkpoint:
        return trained(sigma, train, options.cache)
    found = load_checkpoint(options.checkpoint).classifier
    if found is None:
        raise SystemExit(f"{str(options.checkpoint)!r} has no head")
    return found.eval()


def _stated(place: Path) -> str:
    with safe_open(place, "pt") as file:
        return (file.metadata() or {}).get("recipe", "")


def _hidden(options: argparse.Namespace) -> tuple[str, ...]:
    places = [options.data.partition(":")[2], *map(str, (options.cache or "", options.out))]
    return tuple(place for place in places if place)


def _lines(place: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in place.read_text().splitlines()] if place.exists() else []


def _append(place: Path, lines: list[dict[str, Any]]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("audit", "summarize"))
    parser.add_argument("--data", default="digits", help="e.g. parquet:PATH")
    parser.add_argument("--checkpoint", type=Path, help="instead of training on --data")
    parser.add_argument("--cache", type=Path, help="folder of the weights that are trained here")
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0])
    parser.add_argument("--images", type=int, default=360)
    parser.add_argument("--training-images", type=int)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.what == "summarize":
        summarize(options.out)
        return
    if not options.checkpoint and not options.cache:
        parser.error("training needs --cache; or give --checkpoint")
    torch.set_num_threads(1)
    audit_all(options)


if __name__ == "__main__":
    main()
