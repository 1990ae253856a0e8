"""Does it help to look many times? Multi-view inference on four encoders, several seeds each.

Each checkpoint is studied by `robustcl multiview`; the checkpoints of one encoder, which differ in
the seed, share their test images, so differences are averaged over them image by image before the
paired interval over images is taken. The baseline of an encoder is the mean score of its
checkpoints on the plain image (three networks beside four views, by default). It faces its own
attack only, so its robust accuracy is not comparable with that of the views.

Checkpoints come by --model, or are trained here by --train, small ones for two cores.
--profile cpu takes 1,000 test and 1,000 held-out images, attacks 500 and tries four views at most.

Run: python benchmarks/multiview.py --data parquet:PATH --out DIR --train DIR --seeds 0,1,2
     python benchmarks/multiview.py --data parquet:PATH --out DIR --model lipschitz=A,B,C
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataclasses import asdict

from benchmarks.provenance import provenance, record
from robustcl.calibration import paired_mean
from robustcl.cli.main import robustcl
from robustcl.records.arrays import load_arrays

SINGLE = "single view"
ENDS = ("value", "low", "high")
# Words of `robustcl train`; a 1-Lipschitz encoder takes its own script and comes by --model.
KINDS = {
    "standard": ("--loss", "supcon"),
    "adversarial": ("--loss", "supcon", "--robust", "acl:eps=8/255,steps=1"),
    "noise": ("--loss", "supcon", "--robust", "noise:sigma=0.25"),
}
PROFILES = {
    "cpu": {"limit": 1000, "held-out": 1000, "attacked": 500, "count": "1,2,4"},
    "tiny": {"limit": 150, "held-out": 100, "attacked": 16, "count": "1,3"},
}


def trained(kind: str, seed: int, args: argparse.Namespace) -> Path:
    place = args.train / f"{kind}-{seed}.safetensors"
    if not place.exists():
        words = ["train", "--data", args.data, "--epochs", str(args.epochs), "--seed", str(seed)]
        if robustcl([*words, *KINDS[kind], "--out", str(place)]):
            raise SystemExit(f"training {place.name} failed")
    return place


def studied(name: str, number: int, place: Path, others: list[Path], args: Any) -> Path:
    out = args.out / f"{name}-{number}"
    if (out / "study.json").exists():
        return out
    profile = {f"--{key}": str(value) for key, value in PROFILES[args.profile].items()}
    options = {
        "--data": args.data, "--views": args.views, "--norm": args.norm, "--eps": args.eps,
        "--aggregate": args.aggregate, "--ensemble": ",".join(map(str, others)), **profile,
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    if robustcl(["multiview", str(place), "--out", str(out), "--resume", *words]):
        raise SystemExit(f"the study of {place.name} failed")
    return out


def summary(name: str, folders: list[Path], args: Any) -> list[dict[str, Any]]:
    stored = [load_arrays(folder, "judged") for folder in folders]
    studies = [json.loads((folder / "study.json").read_text()) for folder in folders]
    names = [str(part) for part in stored[0]["attacked_names"]]
    before = {
        key: [part[key][names.index(SINGLE)] for part in stored] for key in ("transfer", "stood")
    }
    rows = []
    for place, model in enumerate(names):
        if model == SINGLE:
            continue
        whole = [str(part) for part in stored[0]["names"]].index(model)
        found: dict[str, Any] = {"encoder": name, "model": model, "seeds": len(folders)}
        gains = {
            "accuracy_gain": [gap(part["right"][whole], part["right"][0]) for part in stored],
            "transfer_gain": [
                gap(part["transfer"][place], old)
                for part, old in zip(stored, before["transfer"], strict=True)
            ],
            "adaptive_gain": [
                gap(part["stood"][place], old)
                for part, old in zip(stored, before["stood"], strict=True)
            ],
        }
        found |= {key: asdict(paired_mean(parts)) for key, parts in gains.items()}
        for metric in ("accuracy", "nll", "smooth_ece", "debiased", "ece15", "augrc"):
            found[metric] = [
                float(np.mean([study["models"][which]["clean"][metric] for study in studies]))
                for which in (SINGLE, model)
            ]
        found["attacked_nll"] = [  # each on the points found against itself
            float(np.mean([study["models"][which]["attacked"]["nll"] for study in studies]))
            for which in (SINGLE, model)
        ]
        for metric in ("robust", "certified"):
            values = [[s["models"][w].get(metric) for s in studies] for w in (SINGLE, model)]
            found[metric] = [None if None in part else float(np.mean(part)) for part in values]
        found["nll_gain_per_seed"] = [study["comparisons"][model]["nll"] for study in studies]
        baseline = studies[0]["baseline"]
        if baseline is not None:
            found["ensemble"] = {"members": baseline["members"], "robust": baseline["robust"],
                                 "accuracy": baseline["clean"]["accuracy"],
                                 "nll": baseline["clean"]["nll"]}  # fmt: skip
        rows.append({**found, "norm": args.norm, "eps": args.eps, "views": args.views,
                     "profile": args.profile, **provenance(hidden=hidden(args))})  # fmt: skip
    return rows


def table(place: Path) -> str:
    """Write the lines of a file as a Markdown table, in points and percent.

    Args:
        place: The file.

    Returns:
        The table.
    """
    heads = (
        *("encoder", "model", "accuracy gain", "seems: knows one view", "is: knows all views"),
        *("robust", "certified", "NLL", "debiased error"),
        "ensemble: accuracy, robust against its own attack alone, NLL",
    )
    rows = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for line in map(json.loads, place.read_text().splitlines()):
        gains = [
            "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * line[key][end] for end in ENDS))
            for key in ("accuracy_gain", "transfer_gain", "adaptive_gain")
        ]
        pairs = [
            " to ".join("–" if part is None else f"{scale * part:.{digits}f}" for part in line[key])
            for key, scale, digits in (
                ("robust", 100, 1), ("certified", 100, 1), ("nll", 1, 3), ("debiased", 100, 1)
            )
        ]  # fmt: skip
        more = line.get("ensemble")
        last = "–" if more is None else (
            f"{100 * more['accuracy']:.1f}, {100 * more['robust']:.1f}, {more['nll']:.3f}"
        )  # fmt: skip
        rows.append(
            "| " + " | ".join([line["encoder"], line["model"], *gains, *pairs, last]) + " |"
        )
    return "\n".join(rows)


def gap(after: np.ndarray, before: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(after.astype(float) - before.astype(float))


def hidden(args: Any) -> tuple[str, ...]:
    places = [
        args.data.partition(":")[2],
        *(str(p or "") for p in (args.out, args.train, args.record)),
    ]
    places += [place for text in args.model for place in text.partition("=")[2].split(",")]
    return tuple(place for place in places if place)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path, help="folder of the studies")
    parser.add_argument("--record", type=Path, help="file of results, appended to")
    parser.add_argument("--table", action="store_true", help="only show what --record holds")
    parser.add_argument("--model", action="append", default=[], help="NAME=CKPT,CKPT,...")
    parser.add_argument("--train", type=Path, help="folder of checkpoints that are trained here")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--views", default="shift")
    parser.add_argument("--aggregate", default="embedding,score,vote")
    parser.add_argument("--norm", default="l2")
    parser.add_argument("--eps", default="0.25")
    parser.add_argument("--profile", choices=PROFILES, default="cpu")
    args = parser.parse_args()
    if args.record is None if args.table else None in (args.data, args.out):
        parser.error("--table needs --record, a study --data and --out")
    return args


def main() -> None:
    args = parsed()
    if args.table:
        print(table(args.record))
        return
    models: dict[str, list[Path]] = {}
    if args.train:
        seeds = [int(part) for part in args.seeds.split(",")]
        for kind in args.kinds.split(","):
            models[kind] = [trained(kind, seed, args) for seed in seeds]
    for text in args.model:
        name, _, places = text.partition("=")
        models[name] = [Path(place) for place in places.split(",")]
    for name, places in models.items():
        others = places if len(places) > 1 else []
        folders = [studied(name, k, place, others, args) for k, place in enumerate(places)]
        for row in summary(name, folders, args):
            record(row, args.record)


if __name__ == "__main__":
    main()
