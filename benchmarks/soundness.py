"""Attack certificates just inside their radii, on hundreds of random networks.

Networks of every family that bounds on a ball know, some trained for a few steps, some with weights
chosen to break rounding (entries of 1e4 that cancel), with prototype, linear and score heads; each
image is attacked in float64 by projected gradient steps with restarts, on the surface of the
certified ball and just inside. A win there is a violation.

The families are so small that no layer is bounded from patches (`certify.bounds.in_patches`).
--wide takes convolutional networks instead whose layers are; `from_patches` counts how often that
was.

Run: python benchmarks/soundness.py [--networks 200] [--images 16] [--wide] [--out FILE]
"""

import argparse
import collections
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from robustcl.certify import certified_radius, crown, geodesic, local, prepared_model, product
from robustcl.certify.bounds import refined_bounds as refinement
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.objectives import score_margin
from robustcl.models.encoders import MaxMin
from robustcl.models.heads import LinearHead, PrototypeHead
from tests.families import FAMILIES, family

METHODS = {
    "product": product,
    "local": local,
    "crown": crown,
    "sound": certified_radius,
    "sound, 3 splits": partial(certified_radius, slope_steps=5, splits=3),
}
HEADS = ("prototype", "linear", "scores")
CLASSES = 4
WIDE_SHAPE = (3, 10, 10)


def _wide(first: nn.Module, second: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        first,
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(6),
        second,
        nn.Conv2d(6, 6, 3, padding=1),
        second,
        nn.Flatten(),
        nn.Linear(150, 6),
    )


WIDE: Mapping[str, Callable[[], nn.Module]] = {
    "relu": lambda: _wide(nn.ReLU(), nn.ReLU()),
    "leaky": lambda: _wide(nn.LeakyReLU(0.2), nn.LeakyReLU(-0.3)),
    "max_min": lambda: _wide(MaxMin(), MaxMin()),
    "tanh": lambda: _wide(nn.Tanh(), nn.ReLU()),
    "gelu": lambda: _wide(nn.ReLU(), nn.GELU()),
}


def _wide_family(name: str, *, seed: int) -> Encoder:
    torch.manual_seed(seed)
    layers = WIDE[name]()
    return Encoder(layers, image_shape=WIDE_SHAPE, mean=(0.5, 0.4, 0.3), std=(0.5, 0.3, 0.4))


def random_model(seed: int, *, wide: bool = False) -> tuple[str, Classifier]:
    """Make a network whose family, head and kind follow from the seed.

    Args:
        seed: Of everything.
        wide: Whether it has layers that are bounded from patches.

    Returns:
        Its description and the classifier, in float64.
    """
    names = list(WIDE if wide else FAMILIES)
    name, head = names[seed % len(names)], HEADS[(seed // len(names)) % len(HEADS)]
    kind = ("plain", "rough", "trained")[seed % 3]
    encoder = (_wide_family if wide else family)(name, seed=seed).double().eval()
    generator = torch.Generator().manual_seed(seed)
    if kind == "rough":
        _roughen(encoder.backbone, generator)
    weight = torch.randn(CLASSES, 6, generator=generator)
    if head == "scores":
        network = nn.Sequential(encoder.backbone, nn.Linear(6, CLASSES).double())
        model = Classifier.from_scores(network, image_shape=encoder.image_shape).double().eval()
    else:
        bias = 0.3 * torch.randn(CLASSES, generator=generator)
        made = PrototypeHead(weight) if head == "prototype" else LinearHead(weight, bias)
        model = Classifier(encoder, made).double().eval()
    if kind == "trained":
        _train(model, generator)
    return f"{name}/{head}/{kind}", model


def _roughen(network: nn.Module, generator: torch.Generator) -> None:
    # Large entries in pairs that cancel in the next layer up to a rest.
    layers = [part for part in network.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        for layer in layers[:1]:
            big = 1e4 * torch.randn(layer.weight[:1].shape, generator=generator).double()
            layer.weight[:2] += big
        for layer in layers[1:2]:
            layer.weight[:, 1] = -layer.weight[:, 0] * (1.0 + 1e-7)


def _train(model: Classifier, generator: torch.Generator) -> None:
    images = torch.rand(64, *model.image_shape, generator=generator).double()
    labels = torch.randint(CLASSES, (64,), generator=generator)
    weights = list(model.encoder.backbone.parameters())
    optimizer = torch.optim.Adam(weights, lr=3e-3)
    for _ in range(30):
        loss = nn.functional.cross_entropy(4.0 * model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def beaten(
    model: Callable[[Tensor], Tensor], images: Tensor, claim_radius: Tensor, predicted: Tensor,
    norm: Norm, *, restarts: int, generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Search the certified balls for another class, in float64.

    Args:
        model: Images to scores, in float64.
        images: (B, C, H, W).
        claim_radius: (B,) certified.
        predicted: (B,) classes.
        norm: 'l2' or 'linf'.
        restarts: Starts per image; the first is the image itself.
        generator: Of the others.

    Returns:
        (B,) whether one was found.
    """
    radius = (claim_radius * (1.0 - 1e-9)).view(-1, 1, 1, 1)
    won = torch.zeros(len(images), dtype=torch.bool)
    for start in range(restarts):
        noise = torch.randn(images.shape, generator=generator).double()
        delta = _onto(noise, radius, norm) * float(start > 0)
        for step in range(25):
            points = (images + delta).requires_grad_()
            scores = model(points)
            margin = score_margin(scores, predicted)
            won |= margin.detach() > 0
            # Early on each restart aims at one other class, later at the nearest.
            aim = scores[:, start % CLASSES] - scores.gather(1, predicted[:, None])[:, 0]
            (slope,) = torch.autograd.grad((aim if step < 8 else margin).sum(), points)
            pace = radius * (1.0 if step < 2 else 0.3)
            delta = _onto(delta + _onto(slope, pace, norm, full=True), radius, norm)
    return won


def _onto(delta: Tensor, radius: Tensor, norm: Norm, *, full: bool = False) -> Tensor:
    if norm == "linf":
        delta = delta.sign() * radius if full else delta
        return torch.minimum(torch.maximum(delta, -radius), radius)
    sizes = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp_min(1e-300)
    scale = radius / sizes
    return delta * (scale if full else scale.clamp(max=1.0))


def _counted() -> collections.Counter[str]:
    # Counts from now on how often units are bounded from patches.
    calls, original = collections.Counter(), refinement.in_patches

    def counting(*values: Any) -> Any:
        calls["calls"] += 1
        return original(*values)

    refinement.in_patches = counting
    return calls


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--restarts", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--wide", action="store_true", help="layers bounded from patches")
    parser.add_argument("--inflate", type=float, default=1.0, help="a planted mistake")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    begun = time.monotonic()
    patched = _counted()
    audits: collections.Counter[str] = collections.Counter()
    violations: list[str] = []
    for seed in range(options.first_seed, options.first_seed + options.networks):
        name, model = random_model(seed, wide=options.wide)
        generator = torch.Generator().manual_seed(10_000 + seed)
        images = torch.rand(options.images, *model.image_shape, generator=generator).double()
        for norm in ("l2", "linf"):
            prepared = prepared_model(model, norm=norm, method="soundness")
            methods = METHODS | ({"geodesic": geodesic} if model.normalizes else {})
            for key, method in methods.items():
                claim = method(model, images, norm=norm, prepared=prepared)
                radius = claim.radius * options.inflate
                won = beaten(
                    model, images, radius.clamp(max=1e3), claim.predicted, norm,
                    restarts=options.restarts, generator=generator,
                )  # fmt: skip
                audits[f"{key} {norm}"] += int((claim.radius > 0).sum())
                violations += [f"seed {seed} {name} {key} {norm} image {int(i)}"
                               for i in torch.nonzero(won & (claim.radius > 0))[:, 0]]  # fmt: skip
    result = {
        "networks": options.networks,
        "audits": sum(audits.values()),
        "by_method": dict(audits),
        "violations": len(violations),
        "first": violations[:5],
        "inflate": options.inflate,
        "from_patches": patched["calls"],
        "seconds": round(time.monotonic() - begun),
    }
    print(json.dumps(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
