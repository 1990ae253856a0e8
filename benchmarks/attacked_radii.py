"""Count attacked radii that are no upper bounds: below a certificate, or of points that do not win.

Random dense and convolutional networks are attacked by `attacks.attacked_radius` in L2 and Linf;
one attack on one image counts as one. A radius must not lie below the certified one about the same
class (`certify.certified_radius`, no slopes; for the networks of one layer it is exact, so that
nearly every rounding shows), and its point must change the class in a float64 copy that sees it
alone. Both are looked at here without the attacks' own verdicts. `deployed_below` counts the norms
at which the float32 model was fooled below the certified radius: what no confirmation would leave.

Run: python benchmarks/attacked_radii.py [--networks 3] [--images 16] [--out FILE]
"""

import argparse
import collections
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance
from robustcl import attacks, certify
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.modules import exact_copy
from robustcl.core.objectives import misclassify

ATTACKS = ("pgd", "apgd", "fmn", "ddn", "deepfool", "boundary_walk")
GRIDS: dict[CertifiedNorm, list[float]] = {"l2": [0.25, 1.0, 4.0], "linf": [0.03, 0.1, 0.5]}
SHAPE = (1, 8, 8)
PLACE = Path(__file__).parent / "results" / "attacked_radii" / "summary.json"


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def _dense() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
    )


def _convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Flatten(), nn.Linear(512, 10))


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.ReLU(), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": _linear,
    "dense": _dense,
    "convolution": _convolution,
    "convolutions": _convolutions,
}


def audited(model: Classifier, images: Tensor, norm: CertifiedNorm) -> collections.Counter[str]:
    """Attack images by every attack of the norm, and count.

    Args:
        model: The network.
        images: (B, C, H, W).
        norm: 'l2' or 'linf'.

    Returns:
        Counts by name.
    """
    claim = certify.certified_radius(model, images, norm=norm, slope_steps=0)
    counts: collections.Counter[str] = collections.Counter()
    for name in ATTACKS:
        if norm not in attacks.ATTACKS[name].norms:
            continue
        found = attacks.attacked_radius(
            name, misclassify(model, claim.predicted), images, norm=norm, eps_grid=GRIDS[norm],
            batch_size=len(images),
        )  # fmt: skip
        alone = _wins_alone(model, found.adversarials, claim.predicted)
        moved = (found.adversarials.double() - images.double()).flatten(1)
        norms = torch.linalg.vector_norm(moved, 2 if norm == "l2" else torch.inf, dim=1)
        counts.update(
            attacks=len(images),
            fooled=int(found.success.sum()),
            confirmed=int(found.confirmed.sum()),
            pushed=int((found.confirmed & (found.radius > found.deployed * (1 + 1e-10))).sum()),
            below_certified=int((found.radius < claim.radius).sum()),
            below_own_norm=int((found.radius < norms)[found.confirmed].sum()),
            no_win_alone=int((found.confirmed & ~alone).sum()),
            deployed_below=int((found.deployed < claim.radius).sum()),
        )
    return counts


def _wins_alone(model: Classifier, points: Tensor, left: Tensor) -> Tensor:
    exact = exact_copy(model)
    with torch.no_grad():
        scores = torch.cat([exact(point[None].double()) for point in points])
    others = scores.scatter(1, left[:, None], -torch.inf).amax(dim=1)
    return others > scores.gather(1, left[:, None])[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=int, default=3, help="of each kind")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=PLACE)
    options = parser.parse_args()
    begun, worked = time.monotonic(), time.process_time()
    total: collections.Counter[str] = collections.Counter()
    kinds: dict[str, Any] = {}
    for kind, build in NETWORKS.items():
        own: collections.Counter[str] = collections.Counter()
        for seed in range(options.first_seed, options.first_seed + options.networks):
            torch.manual_seed(seed)
            model = Classifier.from_scores(build(), image_shape=SHAPE)
            images = torch.rand(options.images, *SHAPE)
            for norm in GRIDS:
                own.update(audited(model, images, norm))
        kinds[kind] = dict(own)
        total.update(own)
        print(f"{kind}: {dict(own)}", file=sys.stderr, flush=True)
    result = {
        **total,
        "by_network": kinds,
        "seconds": round(time.monotonic() - begun),
        "processor_seconds": round(time.process_time() - worked),
        **provenance(hidden=(str(options.out),)),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
