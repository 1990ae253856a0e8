"""Freeze the bounds of many networks as numbers, and compare them with those of another version.

99 small networks (families, heads, odd layers, the ten of `ten_networks.py`) and the
committed checkpoints, in both norms: radii by every deterministic certificate and estimate, global
constants, displacements and ranks of retrieval. Numbers are written with all their digits; what is
refused is written with its message. Everything runs on one thread and from fixed seeds.

`benchmarks/results/frozen_bounds/before.json` holds those of version 0.2.0 before its operations
became classes.

Run: python benchmarks/frozen_bounds.py --out FILE [--only NAME] [--compare FILE]
"""

import argparse
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ten_networks import NETWORKS, SHAPES, build
from robustcl.certify import (
    certified_radius,
    crown,
    displacement,
    first_order,
    geodesic,
    jacobian_norm,
    local,
    multi_view,
    product,
    retrieval,
)
from robustcl.certify.bounds import network_lipschitz_bound
from robustcl.core.choices import CERTIFIED_NORMS, CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.models.checkpoint import load_checkpoint
from robustcl.models.heads import LinearHead, PrototypeHead
from robustcl.models.inference_views import shift_views
from robustcl.models.multi_view import MultiView
from tests.families import FAMILIES, family
from tests.odd_networks import HONEST, odd_network

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
METHODS = {
    "product": product,
    "geodesic": geodesic,
    "local": local,
    "crown": crown,
    "sound": certified_radius,
    "first_order": first_order,
    "jacobian_norm": jacobian_norm,
}
CLOSE = 1e-9  # relative; what differs by less is called equal
SEEDS = 4  # of every odd network
LARGE = 20_000  # numbers of an image, from which one image serves


def networks() -> Iterator[tuple[str, Callable[[], Classifier]]]:
    """List the networks.

    Yields:
        Names, and what builds each.
    """
    for name in FAMILIES:
        for head in ("prototype", "linear", "scores"):
            yield f"family {name}, {head}", lambda n=name, h=head: _headed(n, h)
    for name in HONEST:
        for seed in range(SEEDS):
            yield f"odd {name}, {seed}", lambda n=name, s=seed: odd_network(n, s)
    for name in NETWORKS:
        yield f"ten {name}", lambda n=name: build(n)
    for place in sorted(CHECKPOINTS.glob("*.safetensors")):
        yield f"checkpoint {place.stem}", lambda p=place: _loaded(p)
    for name in ("relu", "gelu", "residual"):
        yield f"flipped {name}", lambda n=name: _flipped(n)


def _headed(name: str, head: str) -> Classifier:
    encoder = family(name)
    if head == "scores":
        return Classifier.from_scores(
            encoder.backbone, image_shape=encoder.image_shape, mean=(0.5, 0.4, 0.3)
        ).eval()
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    if head == "prototype":
        return Classifier(encoder, PrototypeHead(weight)).double().eval()
    bias = 0.1 * torch.randn(4, generator=generator, dtype=torch.float64)
    return Classifier(encoder, LinearHead(weight, bias)).double().eval()


def _loaded(place: Path) -> Classifier:
    model = load_checkpoint(place).classifier
    assert model is not None
    return model


def _flipped(name: str) -> Classifier:
    classifier = _headed(name, "prototype")
    return MultiView(classifier, shift_views(3, image_shape=classifier.image_shape)).double().eval()


def _images(classifier: Classifier) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    count = 1 if math.prod(classifier.image_shape) >= SHAPES["color"][0] * 32 * 32 else 3
    return torch.rand(count, *classifier.image_shape, generator=generator, dtype=torch.float64)


def bounds_of(classifier: Classifier) -> dict[str, Any]:
    """Compute every bound of a network, or why there is none.

    Args:
        classifier: The model.

    Returns:
        Lists of numbers, or messages, by method and norm.
    """
    images, found = _images(classifier), {}
    is_small = math.prod(classifier.image_shape) < 100
    for norm in CERTIFIED_NORMS:
        if isinstance(classifier, MultiView):
            found[f"multi_view {norm}"] = _views(classifier, images, norm)
            continue
        for name, method in METHODS.items():
            found[f"{name} {norm}"] = _radii(lambda m=method, n=norm: m(classifier, images, norm=n))
        if is_small:
            found[f"crown, tuned {norm}"] = _radii(
                lambda n=norm: crown(classifier, images, norm=n, slope_steps=3, splits=2)
            )
            found[f"crown, whole {norm}"] = _radii(
                lambda n=norm: crown(classifier, images, norm=n, units=10_000)
            )
        found[f"constant {norm}"] = _said(
            lambda n=norm: [network_lipschitz_bound(classifier.encoder, norm=n).total]
        )
        found[f"displacement {norm}"] = _said(
            lambda n=norm: displacement(classifier, images, eps=0.01, norm=n).drift.tolist()
        )
        gallery = torch.eye(_width(classifier), dtype=torch.float64)
        found[f"retrieval {norm}"] = _said(
            lambda n=norm, g=gallery: (
                retrieval(classifier, images, g, norm=n).radius.flatten().tolist()
            )
        )
    return found


def _width(classifier: Classifier) -> int:
    with torch.no_grad():
        return classifier.encoder(
            torch.rand(2, *classifier.image_shape).to(classifier.encoder.mean)
        ).shape[1]


def _views(classifier: MultiView, images: Tensor, norm: CertifiedNorm) -> Any:
    return _radii(lambda: multi_view(classifier, images, norm=norm))


def _radii(claim: Callable[[], Any]) -> Any:
    return _said(lambda: claim().radius.tolist())


def _said(bound: Callable[[], Any]) -> Any:
    try:
        return bound()
    except (UnsupportedError, InputError) as error:
        return re.sub(r"0x[0-9a-f]+", "0x", str(error))


def compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Count how bounds differ.

    Args:
        before: By network and method.
        after: Likewise.

    Returns:
        Counts, and one line for everything that is not equal.
    """
    counts: Counter[str] = Counter()
    lines = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, {}), after.get(name, {})
        for method in sorted(old.keys() | new.keys()):
            kind = _kind(old.get(method), new.get(method))
            counts[kind] += 1
            if kind not in ("the same", "close", "refused as before"):
                lines.append(f"{name}, {method}: {kind}: {old.get(method)} -> {new.get(method)}")
    return {"counts": dict(counts), "differences": lines}


def _kind(old: Any, new: Any) -> str:
    if isinstance(old, str) or isinstance(new, str) or old is None or new is None:
        if isinstance(old, str) and isinstance(new, str):
            return "refused as before"
        return "refused now" if isinstance(new, str) else "new"
    if old == new:
        return "the same"
    pairs = list(zip(old, new, strict=True))
    if all(math.isclose(a, b, rel_tol=CLOSE, abs_tol=1e-300) for a, b in pairs):
        return "close"
    smaller = any(b < a * (1 - CLOSE) for a, b in pairs)
    larger = any(b > a * (1 + CLOSE) for a, b in pairs)
    return "both ways" if smaller and larger else "smaller" if smaller else "larger"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="write the bounds here, as JSON")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--compare", type=Path, help="an earlier file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, make in networks():
        if options.only in name:
            found[name] = bounds_of(make())
            print(name, file=sys.stderr, flush=True)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=0))
    if options.compare is not None:
        before = json.loads(options.compare.read_text())
        kept = {name: value for name, value in before.items() if options.only in name}
        print(json.dumps(compared(kept, found), indent=1))


if __name__ == "__main__":
    main()
