"""Adversarial contrastive training at a small size: methods by protocols, one JSON line each.

SimCLR, RoCL, ACL (five steps, fast, free), DynACL and DeACL train the same network with BatchNorm
(three strided convolutions) on the same images for the same number of epochs, Linf 8/255. DeACL's
teacher is the SimCLR arm of the same seed, so it has twice the epochs in all. Each encoder then
goes through SLF, ALF and AFF, whose schedules are shrunk, and every classifier through clean test
images, PGD-20 at 4/255 and 8/255, and the screened AutoAttack at 8/255 on fewer images. Rates,
temperature and weights are those of the toolkit or the papers; nothing was tuned.

A line that is already in the file is not computed again; encoders lie in --cache meanwhile. The
images are re-encoded as JPEG of quality 75, so figures are not comparable with the literature to
the decimal, and the network is far smaller than the papers'.

Run: OMP_NUM_THREADS=1 python benchmarks/adversarial_contrastive.py --data parquet:DIR
     --cache DIR --out FILE.jsonl (about 15 minutes of processor time per seed)
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl.attacks import inner_ascent, run_attack, screened
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.objectives import misclassify
from robustcl.core.threat import Threat
from robustcl.data import Dataset, load_data
from robustcl.data.views import COLOR_VIEWS
from robustcl.models.encoders import batch_norm_convnet
from robustcl.models.heads.fitting import encoder_hash
from robustcl.training import TrainRecipe, train_encoder
from robustcl.training.protocols import ProtocolOptions, aff, alf, slf

IMAGES, TEST_IMAGES, AUTOATTACK_IMAGES = 5000, 500, 100
RECIPE = TrainRecipe(epochs=12, batch_size=128, learning_rate=2e-3, views=COLOR_VIEWS)
OPTIONS = ProtocolOptions(epochs=4)
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
ARMS = {
    "simclr": "",
    "deacl": "deacl:eps=8/255",
    "acl": "acl:eps=8/255",
    "dynacl": "dynacl:eps=8/255",
    "rocl": "rocl:eps=8/255",
    "acl fast": "acl:eps=8/255,attack=fast",
    "acl free": "acl:eps=8/255,attack=free",
}
PROTOCOLS = ("slf", "alf", "aff")
PGD_EPS = {"4/255": 4 / 255, "8/255": 8 / 255}


def fresh(seed: int) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(batch_norm_convnet(), image_shape=(3, 32, 32), mean=MEAN, std=STD)


def trained(arm: str, seed: int, train: Dataset, cache: Path) -> tuple[Encoder, dict[str, Any]]:
    """Train an arm's encoder, or read it where it was trained before.

    Args:
        arm: A key of `ARMS`.
        seed: Of weights, order, views and attacks.
        train: Training images.
        cache: Folder of weights and facts.

    Returns:
        The encoder, and what its training took.
    """
    place = cache / f"{arm.replace(' ', '-')}-{seed}.safetensors"
    encoder, facts = fresh(seed), place.with_suffix(".json")
    if facts.exists():
        encoder.load_state_dict(load_file(place))
        return encoder.eval(), json.loads(facts.read_text())
    recipe = replace(RECIPE, robust=ARMS[arm], seed=seed)
    teacher = trained("simclr", seed, train, cache)[0] if arm == "deacl" else None
    begun = time.process_time()
    log = train_encoder(
        encoder, train, recipe, progress=False, attack=inner_ascent, teacher=teacher
    )
    found = {
        "recipe": recipe.to_dict(),
        "training_cpu_seconds": round(time.process_time() - begun, 1),
        "loss": round(log.losses[-1], 4),
        "spread": round(log.spread, 4),
        "alignment": round(log.alignment, 4),
        "encoder_hash": encoder_hash(encoder),
    }
    cache.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, place)
    facts.write_text(json.dumps(found))
    return encoder, found


def judged(classifier: Classifier, test: Dataset, autoattack_images: int) -> dict[str, Any]:
    """Measure clean accuracy, PGD and the screened AutoAttack.

    Args:
        classifier: The model.
        test: Test images.
        autoattack_images: How many of them AutoAttack attacks, the first ones.

    Returns:
        Accuracies, and the passes that AutoAttack took.
    """
    batch = test.batch(range(len(test)))
    objective = misclassify(classifier, batch.labels)
    with torch.no_grad():
        found: dict[str, Any] = {
            "clean": float((objective.margin(batch.images) <= 0).double().mean())
        }
    for name, eps in PGD_EPS.items():
        threat = Threat("linf", eps)
        finding = run_attack(
            "pgd", objective, batch.images, threat, batch_size=100, steps=20, restarts=1
        )
        found[f"pgd20@{name}"] = float((~finding.success).double().mean())
    rows = torch.arange(autoattack_images)
    threat = Threat("linf", 8 / 255)
    screening = screened(objective.select(rows), batch.images[rows], threat, batch_size=100)
    found["autoattack@8/255"] = float((~screening.result.success).double().mean())
    found["autoattack_images"] = autoattack_images
    found["autoattack_gradients"] = int(screening.result.gradients.sum())
    return found


def probed(protocol: str, encoder: Encoder, train: Dataset, seed: int) -> Classifier:
    options = replace(OPTIONS, seed=seed)
    if protocol == "slf":
        return slf(encoder, train, options=options)
    method = alf if protocol == "alf" else aff
    return method(encoder, train, attack=inner_ascent, options=options)


def done_already(place: Path) -> set[tuple[str, str, int]]:
    if not place.exists():
        return set()
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    return {(line["arm"], line["protocol"], line["seed"]) for line in lines}


def table(place: Path) -> str:
    """Write the lines of a file as a Markdown table, means over seeds.

    Args:
        place: The file.

    Returns:
        The table.
    """
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    names = ("clean", "pgd20@4/255", "pgd20@8/255", "autoattack@8/255")
    rows = ["| method | protocol | " + " | ".join(names) + " | training (CPU s) | seeds |"]
    rows.append("|---" * (len(names) + 4) + "|")
    for arm in ARMS:
        for protocol in PROTOCOLS:
            own = [line for line in lines if (line["arm"], line["protocol"]) == (arm, protocol)]
            if own:
                means = [sum(line[name] for line in own) / len(own) for name in names]
                seconds = sum(line["training_cpu_seconds"] for line in own) / len(own)
                cells = [f"{100 * mean:.1f}" for mean in means]
                rows.append(
                    f"| {arm} | {protocol} | {' | '.join(cells)} | {seconds:.0f} | {len(own)} |"
                )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder of encoders")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--training-images", type=int, default=IMAGES)
    parser.add_argument("--test-images", type=int, default=TEST_IMAGES)
    parser.add_argument("--autoattack-images", type=int, default=AUTOATTACK_IMAGES)
    parser.add_argument("--table", action="store_true", help="only show what the file holds")
    options = parser.parse_args()
    if options.table:
        print(table(options.out))
        return
    train = load_data(options.data, split="train", limit=options.training_images, draw="first")
    test = load_data(options.data, split="test", limit=options.test_images, draw="first")
    skip = done_already(options.out)
    for seed in options.seeds:
        for arm in options.arms:
            for protocol in PROTOCOLS:
                if (arm, protocol, seed) in skip:
                    continue
                encoder, facts = trained(arm, seed, train, options.cache)
                begun = time.process_time()
                classifier = probed(protocol, encoder, train, seed)
                spent = round(time.process_time() - begun, 1)
                frozen = encoder_hash(classifier.encoder) == facts["encoder_hash"]
                found = judged(classifier, test, options.autoattack_images)
                result = {
                    "arm": arm,
                    "protocol": protocol,
                    "seed": seed,
                    **found,
                    "encoder_frozen": frozen,
                    "protocol_epochs": OPTIONS.epochs,
                    "protocol_cpu_seconds": spent,
                    "judging_cpu_seconds": round(time.process_time() - begun - spent, 1),
                    "images": len(train),
                    "test_images": len(test),
                    **facts,
                }
                hidden = (options.data, str(options.cache), str(options.out))
                record({**result, **provenance(hidden=hidden)}, options.out)


if __name__ == "__main__":
    main()
