"""Certify what strangers bring, and attack every radius in float64.

`tests/odd_networks.py` holds families of networks. Some are honest but unusual: odd parameters of
activations, paddings, pooling, types and scales. Others are not what their layers say: hooks,
values overwritten in place, hidden state. Every network is certified by one method and norm, which
follow from the seed; radii above 0 are attacked by projected gradient steps in float64, each point
alone. A win is a violation. Refusals are counted by their reason.

Run: python benchmarks/odd_networks.py [--networks 200] [--out FILE]
"""

import argparse
import collections
import json
import re
import sys
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance
from benchmarks.soundness import METHODS, beaten
from robustcl.core.choices import Norm
from robustcl.core.errors import RobustclError, ViolationError
from robustcl.core.modules import exact_copy
from tests.network_parts import SHAPE
from tests.odd_networks import HONEST, odd_network
from tests.planted_networks import PLANTED

NORMS: tuple[Norm, ...] = ("l2", "linf")


def audit(name: str, seed: int, images: int) -> tuple[str, int, int]:
    """Certify and attack one network.

    Args:
        name: Family.
        seed: Of network, images, method and norm.
        images: Images.

    Returns:
        The reason of a refusal or '', images with a positive radius, and violations.
    """
    generator = torch.Generator().manual_seed(20_000 + seed)
    points = torch.rand(images, *SHAPE, generator=generator)
    norm, method = NORMS[seed % 2], list(METHODS)[seed // 2 % len(METHODS)]
    try:
        model = odd_network(name, seed)
        claim = METHODS[method](model, points, norm=norm)
    except ViolationError:
        return "", images, images
    except RobustclError as error:
        reason = re.sub(r"'[^']*'", "'…'", str(error))
        return re.sub(r"-?\d[\d.e+-]*", "N", reason)[:90], 0, 0
    exact = exact_copy(model)
    positive = (claim.radius > 0) & (claim.predicted >= 0)

    def alone(images: Tensor) -> Tensor:
        return torch.cat([exact(image) for image in images.split(1)])

    radius, classes = claim.radius.clamp(max=1e3), claim.predicted.clamp_min(0)
    won = beaten(alone, points.double(), radius, classes, norm, restarts=3, generator=generator)
    return "", int(positive.sum()), int((won & positive).sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=int, default=200, help="of each family")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--families", default="", help="names that contain this")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    begun, table = time.monotonic(), {}
    for name in [*PLANTED, *HONEST]:
        if options.families not in name:
            continue
        refusals: collections.Counter[str] = collections.Counter()
        certified = positive = violations = 0
        first: list[int] = []
        for seed in range(options.networks):
            reason, count, beaten_ones = audit(name, seed, options.images)
            refusals[reason] += bool(reason)
            certified += count * 2 > options.images
            positive += count
            violations += beaten_ones
            first += [seed] if beaten_ones else []
        table[name] = {
            "planted": name in PLANTED,
            "networks": options.networks,
            "certified_on_most_images": certified,
            "audits": positive,
            "violations": violations,
            "refused": {key: value for key, value in refusals.most_common() if value},
            "seeds_of_violations": first[:5],
        }
        print(json.dumps({name: table[name]}, ensure_ascii=False), flush=True)
    honest = [row for row in table.values() if not row["planted"]]
    networks = sum(row["networks"] for row in honest)
    result = {
        **provenance(hidden=(str(options.out),)),
        "families": table,
        "violations": sum(row["violations"] for row in table.values()),
        "audits": sum(row["audits"] for row in table.values()),
        "honest_certified": sum(row["certified_on_most_images"] for row in honest)
        / max(1, networks),
        "seconds": round(time.monotonic() - begun),
    }
    print(json.dumps({key: result[key] for key in ("violations", "audits", "honest_certified")}))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
