"""Compare deterministic certificates on ten trained networks, with each other and with a peer.

Per network: median radii, images certified at the radius where the product of layer norms certifies
40 % of the rightly classified ones, violations against PGD, and milliseconds per image: wall time
on all cores, and processor time, which a busy machine hardly changes. Where the
environment variable ROBUSTCL_AUTO_LIRPA names folders with auto_LiRPA and what it needs (as in
PYTHONPATH), its CROWN is run on the same images; the radius is found by bisection as here.

Run: python benchmarks/certificates.py --cache DIR --data parquet:PATH [--images 64] [--out FILE]
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.networks import load_or_train
from benchmarks.provenance import provenance, record
from benchmarks.ten_networks import NETWORKS
from robustcl import attacks
from robustcl.certify import certified_radius, crown, local, prepared_model, product
from robustcl.certify._local import first_radii
from robustcl.certify.verification_problem import verification_problem
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.objectives import misclassify
from robustcl.data import load_data
from robustcl.studies.peers._auto_lirpa import VARIABLE, can_be_peered, peer_crown
from robustcl.studies.peers.comparison import AbsentError, import_peer

METHODS = {"product": product, "local": local, "crown": crown, "sound": certified_radius}
SPEC = {"digits": "digits"}


def measured(
    name: str,
    model: Classifier,
    images: Tensor,
    labels: Tensor,
    norm: CertifiedNorm,
    peer_images: int,
) -> dict[str, Any]:
    """Run every certificate, the attack and the peer on one network.

    Args:
        name: Of the network.
        model: The network.
        images: Test images.
        labels: Their classes.
        norm: 'l2' or 'linf'.
        peer_images: How many of them the peer gets.

    Returns:
        Plain numbers.
    """
    prepared = prepared_model(model, norm=norm, method="benchmark")
    radii: dict[str, Tensor] = {}
    seconds: dict[str, float] = {}
    processor: dict[str, float] = {}
    for key, method in METHODS.items():
        method(model, images[:2], norm=norm, prepared=prepared)
        begun, worked = time.perf_counter(), time.process_time()
        radii[key] = method(model, images, norm=norm, prepared=prepared).radius
        seconds[key] = time.perf_counter() - begun
        processor[key] = time.process_time() - worked
    task = verification_problem(prepared, images)
    right = task.predicted == labels
    grid = [float(value) for value in np.quantile(first_radii(task).amin(1).numpy(), [0.5, 1.0])]
    found = attacks.attacked_radius(
        "pgd",
        misclassify(model, task.predicted),
        images,
        norm=norm,
        eps_grid=[1e-6 + grid[0], 1e-3 + 3.0 * grid[1]],
        box=None,
        batch_size=len(images),
    )
    level = float(radii["product"][right].quantile(0.6))
    result: dict[str, Any] = {"network": name, "norm": norm, "images": len(images)}
    result["accuracy"] = round(float(right.double().mean()), 3)
    result["level"] = level
    for key, radius in radii.items():
        result[key] = {
            "median": float(radius[right].median()),
            "certified_at_level": int((radius[right] >= level).sum()),
            "of_attacked": float((radius / found.radius)[right].median()),
            "ms_per_image": round(1e3 * seconds[key] / len(images), 2),
            "processor_ms_per_image": round(1e3 * processor[key] / len(images), 2),
            "violations": int((radius > found.radius * (1 + 1e-9)).sum()),
        }
    result["attacked_median"] = float(found.radius[right].median())
    if peer_images and can_be_peered(model, task):
        few = verification_problem(prepared, images[:peer_images])
        begun = time.perf_counter()
        radius = peer_crown(model, few)
        own = radii["sound"][: len(radius)]
        # Radii are about the predicted class, right or wrong: all images count here.
        result["auto_LiRPA CROWN"] = {
            "images": len(radius),
            "median": float(radius.median()),
            "ours_median": float(own.median()),
            "ours_over_it": float((own / radius.clamp_min(1e-12)).median()),
            "ours_lower_on": int((own < radius * 0.99).sum()),
            "certified_at_level": int((radius >= level).sum()),
            "ours_at_level": int((own >= level).sum()),
            "ms_per_image": round(1e3 * (time.perf_counter() - begun) / len(radius), 1),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--peer-images", type=int, default=8)
    parser.add_argument("--norm", choices=["l2", "linf"], default="l2")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--threads", type=int, help="of torch; all cores by default")
    parser.add_argument("--out", type=Path, help="append the JSON lines here")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        import_peer("auto_LiRPA", cure=f"name its folders in {VARIABLE}", variable=VARIABLE)
        peer_images = options.peer_images
    except AbsentError as error:
        print(f"without the peer: {error}", file=sys.stderr)
        peer_images = 0
    made = provenance(hidden=(str(options.cache), options.data, str(options.out)))
    for name in options.networks:
        spec = "digits" if NETWORKS[name].data == "digits" else options.data
        model = load_or_train(name, data=spec, cache=options.cache)
        batch = next(iter(load_data(spec, split="test").batches(options.images)))
        found = measured(name, model, batch.images, batch.labels, options.norm, peer_images)
        record(found | made, options.out)


if __name__ == "__main__":
    main()
