"""Show that no verdict depends on company: images together, alone and reversed, threads, processes.

Every deterministic certificate is asked about 24 images at once, one by one, backwards, and with
one and two threads; radii, classes, other classes and methods are compared bit by bit. Then
`certify run` writes the records of one process with two threads and of two with one each; all
fields but times are compared.

Run: python benchmarks/company.py [--images 24] [--out FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance
from robustcl.certify import Claim, certified_radius, crown, local, product
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from tests.cli.random_checkpoint import random_checkpoint

METHODS: dict[str, Callable[..., Claim]] = {
    "product": product,
    "local": local,
    "local:stairs=6,units=200": partial(local, stairs=6, units=200),
    "crown": crown,
    "crown:slope_steps=5": partial(crown, slope_steps=5),
    "crown:slope_steps=3,splits=2": partial(crown, slope_steps=3, splits=2),
    "sound": certified_radius,
    "sound:slope_steps=0": partial(certified_radius, slope_steps=0),
    "sound:slope_steps=3,splits=2": partial(certified_radius, slope_steps=3, splits=2),
}
# Times, what a batch shares, and the checksum of the line, which is about times too.
SPARED = ("seconds", "stage_seconds", "forwards", "config", "crc")


def networks() -> dict[str, Classifier]:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    convolutional = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.GELU(),
        nn.Flatten(), nn.Linear(72, 10),
    )  # fmt: skip
    made = {"dense": dense, "convolutional": convolutional}
    return {k: Classifier.from_scores(n, image_shape=(1, 8, 8)) for k, n in made.items()}


def rows(claim: Claim) -> list[tuple[Any, ...]]:
    count = len(claim.radius)
    names = claim.method if isinstance(claim.method, tuple) else (claim.method,) * count
    columns = (claim.radius, claim.predicted, claim.rival)
    return list(zip(*(column.tolist() for column in columns), names, strict=True))


def compare(method: Callable[..., Claim], model: Classifier, images: Tensor, norm: Norm) -> int:
    """Count the images whose verdict differs anywhere.

    Args:
        method: The certificate.
        model: The model.
        images: (B, C, H, W).
        norm: 'l2' or 'linf'.

    Returns:
        Their number.
    """
    torch.set_num_threads(2)
    ask = partial(method, model, norm=norm)
    together = rows(ask(images))
    others = [
        [rows(ask(image))[0] for image in images.split(1)],
        rows(ask(images.flip(0)))[::-1],
        rows(ask(images[: len(images) // 2])) + rows(ask(images[len(images) // 2 :])),
    ]
    torch.set_num_threads(1)
    others.append(rows(ask(images)))
    return sum(any(other[i] != own for other in others) for i, own in enumerate(together))


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [
        json.loads(line)
        for place in folder.glob("records*.jsonl")
        for line in place.read_text().splitlines()
    ]
    kept = [{k: v for k, v in line.items() if k not in SPARED} for line in lines]
    return sorted(kept, key=lambda line: json.dumps(line, sort_keys=True))


def processes(images: int) -> dict[str, Any]:
    """Write the records of one process, with one and two threads, and of two, and compare them.

    Args:
        images: Number of images.

    Returns:
        How many certificate records there are, and how many differ; of two processes and one, with
        one thread each, also of all records, attacks included.
    """
    with tempfile.TemporaryDirectory() as place:
        # A fifth of the data is for the test.
        checkpoint, data = random_checkpoint(Path(place), count=5 * images)
        words = [
            "run", str(checkpoint), "--data", data, "--batch-size", "6", "--methods",
            "product,local,crown,sound", "--attack", "pgd:steps=10", "--eps", "0.2,1",
        ]  # fmt: skip
        one = [sys.executable, "-m", "robustcl.certify"]
        torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"]
        two = [sys.executable, *torchrun, *one]
        found: dict[str, list[dict[str, Any]]] = {}
        for name, command, threads in (("2t", one, "2"), ("1t", one, "1"), ("2p", two, "1")):
            subprocess.run(
                [*command, *words, "--out", str(Path(place) / name)],
                check=True, env={**os.environ, "OMP_NUM_THREADS": threads},
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            found[name] = records(Path(place) / name)
    proofs = {
        name: [line for line in lines if line["kind"] == "certificate"]
        for name, lines in found.items()
    }
    return {
        "certificates": len(proofs["2p"]),
        "certificates_that_differ": unlike(proofs["2t"], proofs["2p"])
        + unlike(proofs["1t"], proofs["2p"]),
        "records": len(found["2p"]),
        "records_that_differ": unlike(found["1t"], found["2p"]),
    }


def unlike(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> int:
    differ = sum(a != b for a, b in zip(first, second, strict=False))
    return differ + abs(len(first) - len(second))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    begun = time.monotonic()
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(options.images, 1, 8, 8, generator=generator)
    norms: tuple[Norm, ...] = ("l2", "linf")
    differing: dict[str, int] = {}
    for name, model in networks().items():
        for norm in norms:
            for key, method in METHODS.items():
                differing[f"{name} {norm} {key}"] = compare(method, model, images, norm)
    result = {
        **provenance(hidden=(str(options.out),)),
        "images": options.images,
        "verdicts_that_differ": sum(differing.values()),
        "by_method": differing,
        "processes": processes(options.images),
        "seconds": round(time.monotonic() - begun),
    }
    print(json.dumps(result))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
