"""Compare the time of a multi-view model with that of as many plain forward passes.

The network is a ResNet-18 with fresh weights or a checkpoint; both sides see the same batch, in
turn, without gradients. `ratio` is the median of (multi-view / K forward passes), processor time.

Run: OMP_NUM_THREADS=1 python benchmarks/view_cost.py [--checkpoint FILE] [--out FILE]
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl.core.classifier import Classifier
from robustcl.models.architectures import build_backbone
from robustcl.models.checkpoint import load_checkpoint
from robustcl.models.inference_views import draw_views
from robustcl.models.multi_view import MultiView

SHAPE = (3, 32, 32)


def seconds(model: nn.Module, images: Tensor, times: int) -> float:
    begun = time.process_time()
    for _ in range(times):
        model(images)
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="of 32 x 32 color images, with a head")
    parser.add_argument("--views", nargs="*", default=["shift", "crop", "noise"])
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.checkpoint is None:
        network = build_backbone("cifar_resnet18", {"channels": SHAPE[0]})
        single = Classifier.from_scores(network, image_shape=SHAPE).eval()
    else:
        loaded = load_checkpoint(options.checkpoint).classifier
        assert loaded is not None
        single = loaded.eval()
    images = torch.rand(options.images, *SHAPE)
    ratios: dict[str, list[float]] = {}
    for family in options.views:
        views = draw_views(family, options.count, image_shape=SHAPE, seed=0)
        many = MultiView(single, views, "score").eval()
        with torch.no_grad():
            seconds(many, images, 1)
            ratios[family] = [
                seconds(many, images, 1) / seconds(single, images, options.count)
                for _ in range(options.repeats)
            ]
    middle = {family: round(statistics.median(found), 3) for family, found in ratios.items()}
    print(json.dumps(middle))
    name = "cifar_resnet18" if options.checkpoint is None else options.checkpoint.name
    found = {"network": name, "count": options.count, "images": options.images, "ratio": middle}
    found["ratios"] = {key: [round(one, 3) for one in values] for key, values in ratios.items()}
    hidden = (str(options.checkpoint), str(options.out))
    record({**found, **provenance(hidden=hidden)}, options.out)


if __name__ == "__main__":
    main()
