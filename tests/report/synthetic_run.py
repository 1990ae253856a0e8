"""Make run folders by hand, whose answers can be worked out on paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustcl.records.arrays import save_arrays
from robustcl.records.json_file import write_sealed
from robustcl.records.lines import record_line
from robustcl.records.reading import SCHEMA, config_hash

EPS = [0.1, 0.5, 1.0]


def record(kind: str, index: int, label: int, predicted: int, **values: Any) -> dict[str, Any]:
    common = {"kind": kind, "index": index, "label": label, "predicted": predicted, "config": "h"}
    return {**common, **values}


def clean(index: int, label: int, predicted: int) -> dict[str, Any]:
    return record("clean", index, label, predicted, method="clean", margin=0.5, seconds=0.01)


def certificate(
    index: int, label: int, predicted: int, radius: float | None, **other: Any
) -> dict[str, Any]:
    terms = {"method": "product", "guarantee": "deterministic", "subject": "model", "norm": "l2"}
    values = {"rival": 1, "seconds": 0.02, **terms, **other}
    return record("certificate", index, label, predicted, radius=radius, **values)


def attack(
    index: int, label: int, predicted: int, radius: float | None, **other: Any
) -> dict[str, Any]:
    terms = {"method": "pgd", "subject": "model", "norm": "l2", "eps": EPS}
    values = {"gradients": 100, "seconds": 0.1, **terms, **other}
    return record("attack", index, label, predicted, radius=radius, **values)


def four_images() -> list[dict[str, Any]]:
    """Image 3 is wrong; image 2 withstands the attack; medians are 0.3 / 2 and 0.55."""
    return [
        *(clean(0, 0, 0), clean(1, 1, 1), clean(2, 0, 0), clean(3, 1, 0)),
        *(certificate(0, 0, 0, 0.05), certificate(1, 1, 1, 0.25)),
        *(certificate(2, 0, 0, 0.6), certificate(3, 1, 0, 0.9)),
        *(attack(0, 0, 0, 0.3), attack(1, 1, 1, 0.8)),
        *(attack(2, 0, 0, None), attack(3, 1, 0, 0.95)),
    ]


def write_run(
    folder: Path,
    records: Sequence[dict[str, Any]],
    *,
    norm: str = "l2",
    eps: Sequence[float] = EPS,
    class_names: Sequence[str] = ("cat", "dog"),
    **manifest: Any,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    methods = list(dict.fromkeys(r["method"] for r in records if r["kind"] == "certificate"))
    attacks = list(dict.fromkeys(r["method"] for r in records if r["kind"] == "attack"))
    config = {"norm": norm, "methods": methods, "attacks": attacks, "eps": list(eps), "seed": 7}
    config |= {"data": "digits", "checkpoint": "runs/model.safetensors", "batch_size": 128}
    content = {
        "schema": SCHEMA,
        "config": config,
        "config_hash": config_hash(config),
        "complete": _complete(records),
        "command": "certify run model.safetensors --data digits --out out",
        "seconds": 12.5,
        "versions": {"python": "3.11.7", "torch": "2.14.0"},
        "device": "CPU (2 threads)",
        "hashes": {"checkpoint": "c" * 16, "data": "d" * 16},
        "image_shape": [1, 8, 8],
        "claims": [
            {"name": m, "norm": [norm], "claim": "margin over a norm", "reference": "A 2018"}
            for m in methods
        ],
        "attacks": [{"name": a, "parameters": {"steps": 40}} for a in attacks],
        "class_names": list(class_names),
        "num_examples": 1 + max((r["index"] for r in records), default=0),
        "created": "2026-01-01T00:00:00+00:00",
        **manifest,
    }
    write_sealed(folder / "manifest.json", content)
    bound = [{**record, "config": content["config_hash"]} for record in records]
    for one in bound:
        one |= {"eps": list(eps)} if one.get("eps") == EPS else {}
    (folder / "records-0.jsonl").write_bytes(b"".join(map(record_line, bound)))
    return folder


def _complete(records: Sequence[dict[str, Any]]) -> bool:
    whole = {r["index"] for r in records if r["kind"] == "clean"}
    by_method: dict[str, set[int]] = {}
    for one in records:
        by_method.setdefault(one["method"], set()).add(one["index"])
    return all(found == set(range(len(whole))) for found in by_method.values())


def write_arrays(folder: Path, labels: Sequence[int], *, channels: int, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    labels_array = np.asarray(labels)
    centers = random.normal(size=(int(labels_array.max()) + 1, 6))
    points = centers[labels_array] + 0.25 * random.normal(size=(len(labels_array), 6))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    embeddings = {"embeddings": points.astype(np.float32), "labels": labels_array}
    save_arrays(folder, "embeddings", {"index": np.arange(len(labels_array)), **embeddings})
    count = min(len(labels_array), 8)
    images = random.random((count, channels, 8, 8)).astype(np.float32)
    change = 0.1 * random.normal(size=images.shape).astype(np.float32)
    triples = {
        "index": np.arange(count),
        "clean": images,
        "attacked": np.clip(images + change, 0, 1),
        "radius": np.linspace(0.1, 0.9, count),
    }
    save_arrays(folder, "triples", triples)


def large_run(
    folder: Path, *, n: int = 400, classes: int = 10, channels: int = 3, scale: float = 0.4
) -> Path:
    """Make something that looks like a real run, for the eye."""
    random = np.random.default_rng(1)
    labels = random.integers(0, classes, n)
    predicted = np.where(random.random(n) < 0.9, labels, (labels + 1) % classes)
    true = random.gamma(3.0, 0.15, n)
    records: list[dict[str, Any]] = []
    smoothing = "smoothing:sigma=.25,n=10000,alpha=.001"
    for i in range(n):
        y, p, t = int(labels[i]), int(predicted[i]), float(true[i])
        proved = t * scale * random.uniform(0.6, 1.0)
        found = t * random.uniform(1.0, 1.3)
        noisy = -1 if random.random() < 0.05 else y if random.random() < 0.88 else (y + 1) % classes
        records += [
            clean(i, y, p),
            certificate(i, y, p, proved),
            certificate(
                *(i, y, noisy, 0.0 if noisy < 0 else float(0.9 * random.beta(2, 2))),
                method=smoothing, guarantee="probabilistic", subject="smoothed model",
            ),
            certificate(i, y, p, t * random.uniform(0.8, 1.6), method="first_order",
                        guarantee="estimate"),
            attack(i, y, p, found if found <= EPS[-1] else None),
            attack(i, y, p, found * 1.1 if found * 1.1 <= EPS[-1] else None, method="fgsm"),
        ]  # fmt: skip
    names = [f"class {k}" for k in range(classes)]
    write_run(folder, records, class_names=names, image_shape=[channels, 8, 8])
    write_arrays(folder, labels.tolist(), channels=channels)
    return folder
