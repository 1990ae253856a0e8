"""Time SimCLR's pipeline against lightly's: the views alone, and whole training steps.

Both draw the same views (crop, flip, jitter, gray) of the same images; with --blur each also blurs
in its own way (Pillow's over the whole range, or a kernel of a tenth of the side). Both train the
same network with AdamW and NT-Xent. lightly does so as its README shows: its SimCLRTransform of
PIL images, decoded beforehand, in a DataLoader whose workers live on from epoch to epoch. Its
transform is spared the normalization, which both leave to the encoder.

An epoch of the one follows an epoch of the other in one process, in turn first. A ratio is
lightly's time over ours, so above 1 this toolkit is faster; between the brackets is a
distribution-free interval of the median of at least 95 %. Wall-clock time says little on a machine
that others use: processor seconds, those of the workers included, stand beside it.

Where other processes hold a core, OpenMP's waiting threads spin: two threads then take longer than
one. OMP_WAIT_POLICY=PASSIVE, or --threads 1, ends that.

Run: pip install lightly && python benchmarks/training_speed_against_lightly.py --data parquet:DIR
     [--device cuda] [--blur 0.5] [--network cifar_resnet18] [--out FILE]
"""

import argparse
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl.data import load_data
from robustcl.studies.interleaved import interleaved, ratio
from robustcl.studies.peers._lightly import Epoch, Pipeline, lightly_epochs, own_epochs


def compared(ours: Epoch, theirs: Epoch, images: int, options: argparse.Namespace) -> dict:
    pairs = interleaved(ours, theirs, repeats=options.repeats, device=options.device)
    found: dict[str, Any] = {}
    for clock in ("wall", "processor"):
        times = ratio(pairs, clock=clock)
        found[clock] = {
            "ratio": round(times.median, 3),
            "interval": [round(times.low, 3), round(times.high, 3)],
            "images_per_second": round(images / times.ours),
            "images_per_second_lightly": round(images / times.theirs),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="as for robustcl train")
    parser.add_argument("--network", default="small_convnet")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--blur", type=float, default=0.0, help="probability")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--workers", type=int, default=2, help="of lightly's DataLoader")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="append the JSON line here")
    options = parser.parse_args()
    try:
        import lightly  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("skipped: lightly is not installed; pip install lightly")
        return
    torch.set_num_threads(options.threads)
    dataset = load_data(options.data, split="train").select(slice(options.images))
    pipeline = Pipeline(
        options.network, options.batch_size, options.blur, options.workers, options.device
    )
    ours, theirs = own_epochs(dataset, pipeline), lightly_epochs(dataset, pipeline)
    images = len(dataset) // options.batch_size * options.batch_size
    begun = os.getloadavg()[0]
    parts = {
        part: compared(mine, other, images, options)
        for part, mine, other in zip(("views", "steps"), ours, theirs, strict=True)
    }
    result = {
        **parts,
        "peer": f"lightly {version('lightly')}",
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "load_before_and_after": [round(begun, 1), round(os.getloadavg()[0], 1)],
        **{key: value for key, value in vars(options).items() if key not in ("data", "out")},
        **provenance(hidden=(options.data, str(options.out))),
    }
    record(result, options.out)


if __name__ == "__main__":
    main()
