"""Attack the same images with the same seeds in batches of 1, 7 and 128, and compare verdicts.

Every attack in the table runs through `attacks.run_attack` at one budget, at which some images
fall and some do not. `verdicts_differ` counts images that fall with one batch size and not with
another; `radii_differ` is the largest relative difference of the radii of those that fall with
each, since the last bits of float32 depend on the shape of a batch and on the row in it, and
attacks amplify them. The reference AutoAttack and torchattacks reseed per batch and so are exempt
from the rule; they get fewer images, as one that survives costs thousands of calls at batch size 1.

Run: python benchmarks/batch_sizes.py --cache DIR --data parquet:PATH [--out FILE]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import networks, robust_networks
from benchmarks.provenance import provenance, record
from robustcl import attacks
from robustcl.core.choices import Norm
from robustcl.core.objectives import displace, misclassify
from robustcl.core.threat import Threat
from robustcl.data import load_data

SIZES = (1, 7, 128)
BUDGETS: dict[str, dict[Norm, float]] = {
    "adversarial": {"l2": 0.5, "linf": 8 / 255},
    "digits-conv2": {"l2": 0.5, "linf": 0.1},
}
EXEMPT = ("autoattack", "torchattacks")
DRIFT = 0.2  # of the embedding, for the attack without labels


def compared(network: str, name: str, norm: Norm, options: argparse.Namespace) -> dict[str, Any]:
    """Run one attack in batches of every size.

    Args:
        network: A key of `BUDGETS`.
        name: The attack.
        norm: 'l2' or 'linf'.
        options: Of the command.

    Returns:
        Plain numbers.
    """
    source = robust_networks if network in robust_networks.NETWORKS else networks
    model = source.load_or_train(network, data=options.data, cache=options.cache)
    spec = "digits" if network.startswith("digits") else options.data
    count = options.exempt_images if name in EXEMPT else options.images
    images = load_data(spec, split="test").batch(range(count)).images
    with torch.no_grad():
        objective = misclassify(model, model(images).argmax(dim=1))
    if name == "embedding_shift":
        objective = displace(model, images, threshold=DRIFT)
    given: dict[str, Any] = {}
    if name == "torchattacks":
        given = {"name": "PGDL2" if norm == "l2" else "PGD"}
    threat = Threat(norm, BUDGETS[network][norm])
    found = [
        attacks.run_attack(name, objective, images, threat, batch_size=size, **given)
        for size in SIZES
    ]
    fallen = torch.stack([finding.success for finding in found])
    radii = torch.stack([finding.deployed for finding in found])[:, fallen.all(dim=0)]
    gap = (radii.amax(dim=0) / radii.amin(dim=0) - 1.0).max() if radii.numel() else torch.zeros(())
    return {
        "network": network, "attack": name, "norm": norm, "eps": threat.eps, "images": count,
        "batch_sizes": list(SIZES), "fallen": fallen.sum(dim=1).tolist(),
        "verdicts_differ": int((fallen.any(dim=0) != fallen.all(dim=0)).sum()),
        "radii_differ": float(gap), "exempt": name in EXEMPT,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--networks", nargs="*", default=list(BUDGETS), choices=list(BUDGETS))
    parser.add_argument("--attacks", nargs="*", default=list(attacks.ATTACKS))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--exempt-images", type=int, default=8)
    parser.add_argument("--out", type=Path, help="append the JSON lines here")
    options = parser.parse_args()
    for network in options.networks:
        for name in options.attacks:
            for norm in attacks.ATTACKS[name].norms:
                result = compared(network, name, norm, options)
                hidden = (options.cache, options.data, str(options.out))
                record({**result, **provenance(hidden=hidden)}, options.out)


if __name__ == "__main__":
    main()
