"""Make one good file of every kind that the package reads, for the cases to spoil."""

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from tests.cli.random_checkpoint import random_checkpoint

CLASSES = ("ant", "bee", "cat")
COUNT = 60
GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = """\
data = "npz:data.npz"
epochs = 1
batch_size = 12
learning_rate = 1e-3
loss = "simclr+semantic:weight=.5"
targets = "simplex"
views = "digits"
measure_every = 1
quiet = true
"""
SUITE = """\
question = "Is a small network right?"
data = ["npz:data.npz"]
norms = ["l2"]
seeds = [0]
limit = 6
metrics = ["clean_accuracy", "certified_accuracy", "attacked_accuracy", "calibration_error"]
certificates = ["product"]
attacks = ["pgd:steps=2"]

[eps]
l2 = [0.1, 0.25]

[models.small]
checkpoint = "model.safetensors"
"""
TREE = "[animal]\ninsect = {ant = {}, bee = {}}\nmammal = {cat = {}}\n"


def make_originals(folder: Path) -> Path:
    """Write the originals in a child process, so that this one stays as it is.

    Args:
        folder: An empty folder.

    Returns:
        The folder.

    Raises:
        RuntimeError: When the child fails; its words are in 'originals.log'.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            log = os.open(folder / "originals.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            _make(folder)
            code = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError((folder / "originals.log").read_text()[-2000:])
    return folder


def _make(folder: Path) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    _data(folder)
    _weights(folder)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "suite.toml").write_text(SUITE)
    (folder / "tree.toml").write_text(TREE)
    (folder / "words.txt").write_text("".join(f"{n} {k} 1 0.5\n" for k, n in enumerate(CLASSES)))
    np.save(folder / "vectors.npy", np.eye(3) + 0.1)
    (folder / "violation.safetensors").write_bytes(
        (GOLDEN / "runs" / "violation.safetensors").read_bytes()
    )
    (folder / "violated.safetensors").write_bytes(
        (GOLDEN / "runs" / "model.safetensors").read_bytes()
    )
    (folder / "old.safetensors").write_bytes(
        (GOLDEN / "checkpoints" / "old.safetensors").read_bytes()
    )
    _run("certify", "run", "model.safetensors", "--data", "npz:data.npz", "--out", "run",
         "--methods", "product,smoothing:sigma=.25,n=20", "--attack", "pgd:steps=2",
         "--eps", ".1,.3", "--limit", "6", "--quiet")  # fmt: skip
    _run("robustcl", "multiview", "model.safetensors", "--data", "npz:data.npz", "--out", "study",
         "--count", "1,2", "--aggregate", "score", "--attacked", "2", "--held-out", "6",
         "--attack", "every_view:steps=2,restarts=1", "--limit", "6", "--quiet",
         "--views", "shift:pixels=1,flip=false")  # fmt: skip
    _run("robustcl", "bench", "suite.toml", "--out", "bench")
    _stopped_training()


def _data(folder: Path) -> None:
    random_checkpoint(folder, count=COUNT)
    with np.load(folder / "data.npz") as found:
        images, labels = found["images"], np.arange(COUNT) % len(CLASSES)
    np.savez(folder / "data.npz", images=images, labels=labels, class_names=np.array(CLASSES))
    rows = []
    for split in ("train", "test"):
        for name in CLASSES:
            (folder / "photos" / split / name).mkdir(parents=True)
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        stream = io.BytesIO()
        Image.fromarray(image[..., 0]).save(stream, format="png")
        rows.append({
            "image": {"bytes": stream.getvalue(), "path": f"{k}.png"},
            "label": int(label),
        })
        place = folder / "photos" / ("train" if k % 2 else "test") / CLASSES[label] / f"{k}.png"
        place.write_bytes(stream.getvalue())
    for split in ("train", "test"):
        for name in CLASSES:  # every class has an image in both splits
            place = folder / "photos" / split / name / "all.png"
            place.write_bytes(rows[0]["image"]["bytes"])
    about = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
        ],
        metadata={"huggingface": json.dumps(about)},
    )
    (folder / "tables").mkdir()
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / "tables" / f"{split}.parquet")


def _weights(folder: Path) -> None:
    from robustcl.models.architectures import build_backbone
    from tests.cli.random_checkpoint import ARCHITECTURE

    torch.manual_seed(1)
    state = build_backbone("small_convnet", ARCHITECTURE).state_dict()
    torch.save({"state_dict": state, "epoch": 3}, folder / "weights.pth")


def _run(program: str, *words: str) -> None:
    from robustcl.cli import main as cli

    code = getattr(cli, program)(list(words))
    if code:
        raise RuntimeError(f"{' '.join(words)}: exit code {code}")


def _stopped_training() -> None:
    # A training run that is stopped after two steps leaves its state.
    from robustcl.training import train_step

    kept, calls = train_step.weighted_sum, list[int]()

    def stopping(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return kept(*arguments, **options)  # pyright: ignore[reportArgumentType, reportCallIssue]

    train_step.weighted_sum = stopping  # pyright: ignore[reportAttributeAccessIssue]
    from robustcl.cli import main as cli

    code = cli.robustcl(
        ["train", "--recipe", "recipe.toml", "--out", "trained.safetensors", "--save-every", "1",
         "--epochs", "4"]
    )  # fmt: skip
    if code != 130 or not Path("trained.state.safetensors").exists():
        raise RuntimeError(f"training was not stopped: exit code {code}")
    train_step.weighted_sum = kept
