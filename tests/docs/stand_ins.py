"""Say what takes the place of large data and long runs where the pages' blocks are run."""

import io
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torchvision
from PIL import Image

from tests.docs.pages import ROOT, Block

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN, TEST = 1000, 260


@dataclass(frozen=True)
class Substitution:
    """State that a page's words are replaced by others, exactly once, when its blocks are run."""

    page: str
    old: str
    new: str


def _small(page: str, *pairs: tuple[str, str]) -> tuple[Substitution, ...]:
    return tuple(Substitution(page, old, new) for old, new in pairs)


# Everything that differs from the pages. What a page says and what is run are otherwise the same.
SUBSTITUTIONS: tuple[Substitution, ...] = (
    *_small(
        "README.md",
        ("--head prototype --out", "--head prototype --batch-size 16 --out"),
        ("smoothing:n=1000 --attack pgd --out run", "smoothing:n=20 --attack pgd:steps=2 --limit 1 --eps 0.5 --out run"),
        ("--limit 200 --out lipschitz-run", "--limit 2 --out lipschitz-run"),
        ("--limit 200 --methods sound,", "--limit 1 --methods sound,"),
        ("--eps 36/255,72/255,108/255", "--eps 3"),
    ),
    *_small(
        "docs/training.md",
        ("--labels 0.1 --out digits.safetensors", "--labels 0.1 --epochs 2 --out digits.safetensors"),
        ("--out label-fraction.jsonl\n", "--out label-fraction.jsonl --seeds 0 1 --epochs 1 --arms simclr 'simclr tau=0.1' suncet\n"),
    ),
    *_small(
        "docs/lipschitz.md",
        ("--learning-rate .02 --out", "--learning-rate .02 --epochs 1 --out"),
        ("--methods product --out lipschitz-run", "--methods product --limit 2 --out lipschitz-run"),
    ),
    *_small(
        "docs/robust-training.md",
        ("penalty:weight=.1 --out", "penalty:weight=.1 --epochs 1 --limit 256 --out"),
        ("noise:sigma=.25 --out", "noise:sigma=.25 --epochs 1 --limit 256 --out"),
        ("n=10000 --attack none --out", "n=100 --attack none --limit 4 --out"),
        ("--out penalty-cpu.safetensors", "--epochs 1 --limit 256 --out penalty-cpu.safetensors"),
    ),
    *_small(
        "docs/adversarial.md",
        ("acl_cpu.toml --out", "acl_cpu.toml --epochs 1 --limit 256 --out"),
        ("--protocol slf --out", "--protocol slf --epochs 1 --out"),
        ("--eps 8/255 --out slf-attacked", "--eps 8/255 --limit 4 --out slf-attacked"),
        ("split=\"train\", limit=5000)", "split=\"train\", limit=256)"),
        ("eps=4/255,steps=1\")", "eps=4/255,steps=1\", epochs=1)"),
        ("--out adversarial.jsonl --seeds 0 1 2", "--out adversarial.jsonl --seeds 0 --arms simclr --training-images 128 --test-images 8 --autoattack-images 2"),
    ),
    *_small(
        "docs/contrastive-against-supervised.md",
        ("--choice choice.jsonl --choose", "--choice choice.jsonl --choose --only cross_entropy penalty --epochs 4 --training-images 128 --held-out-images 10"),
        ("--choice choice.jsonl --out models.jsonl", "--choice choice.jsonl --out models.jsonl --only cross_entropy simclr plain --epochs 1 --training-images 128 --held-out-images 10 --test-images 6 --images 2 --seeds 0 1"),
    ),
    *_small(
        "docs/multiview.md",
        ("--limit 1000 --out study", "--limit 20 --held-out 100 --attacked 2 --attack every_view:steps=2,restarts=1 --out study"),
        ("--aggregate score --limit 100", "--aggregate score --limit 1 --protocol fast --eps 0.5"),
        ("--methods multi_view --limit 100", "--methods multi_view --limit 2"),
        ("--record multiview.jsonl --model", "--record multiview.jsonl --profile tiny --model"),
    ),
    *_small(
        "docs/bench.md",
        ("robustcl bench quick\n", "robustcl bench quick-in-small.toml\n"),
        ("seeds = [0, 1, 2]", "seeds = [0]"),
        ("limit = 200 ", "limit = 12  "),
        ('norms = ["l2", "linf"]', 'norms = ["linf"]'),
        ('linf = ["boundary_walk"]', 'linf = ["pgd:steps=2"]'),
        ("epochs = 60", "epochs = 1"),
        ("--loss supcon --out digits.safetensors", "--loss supcon --epochs 1 --out digits.safetensors"),
    ),
    *_small(
        "docs/scale.md",
        ("smoothing:n=100000 --attack none --plan 64", "smoothing:n=100000 --attack none --batch-size 4 --plan 64"),
    ),
    *_small(
        "benchmarks/checkpoints/adversarial.md",
        ("--out adversarial.safetensors", "--epochs 1 --limit 256 --out adversarial.safetensors"),
        ("--limit 200 --out", "--limit 2 --out"),
    ),
    *_small("benchmarks/checkpoints/lipschitz.md", ("--limit 200 --out", "--limit 4 --out")),
    *_small(
        "benchmarks/checkpoints/noise.md",
        ("--out noise.safetensors", "--epochs 1 --limit 256 --out noise.safetensors"),
        ("--limit 500 --methods", "--limit 4 --methods"),
    ),
    *_small(
        "benchmarks/checkpoints/standard.md",
        ("--out standard.safetensors", "--epochs 1 --limit 256 --out standard.safetensors"),
        ("--limit 100 --out", "--limit 4 --out"),
    ),
)  # fmt: skip

# Commands that .ci/run runs in an environment of its own.
INSTALLING = {
    "README.md": ("pip install .", "certify demo", "pip install .[test]", "pytest"),
}
# Commands that need GPUs or a download: their options are read, and nothing is run.
READ_ONLY = {
    "docs/bench.md": ("robustcl bench corruptions --data cifar10 --download",),
    "docs/scale.md": ("torchrun --nproc-per-node 8",),
}


def substituted(page: str, blocks: list[Block]) -> list[Block]:
    """Replace in a page's blocks what the table says; each entry has to be there exactly once."""
    for entry in SUBSTITUTIONS:
        if entry.page == page:
            count = sum(block.text.count(entry.old) for block in blocks)
            assert count == 1, f"{page}: {entry.old!r} is there {count} times"
            blocks = [
                replace(block, text=block.text.replace(entry.old, entry.new)) for block in blocks
            ]
    return blocks


def furnish(folder: Path) -> None:
    """Put into a fresh folder what the pages take as given: scripts, CIFAR-10, photos, weights."""
    for name in ("recipes", "checkpoints"):
        shutil.copytree(ROOT / "benchmarks" / name, folder / "benchmarks" / name)
    for script in (ROOT / "benchmarks").glob("*.py"):
        shutil.copy(script, folder / "benchmarks")
    _cifar10(folder / "PATH")


def furnish_readme(folder: Path) -> None:
    """Add the weights and photos of a user's own."""
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), folder / "weights.pth")
    draws = np.random.default_rng(0)
    for number, name in enumerate(("dark", "light", "mixed")):
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(10):
            low, high = ((0, 90), (160, 255), (0, 255))[number]
            pixels = draws.integers(low, high, size=(70, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{index}.png")


def furnish_bench(folder: Path) -> None:
    """Add the suite `quick` with one epoch, one norm and twelve images."""
    text = (ROOT / "robustcl" / "bench" / "suites" / "quick.toml").read_text(encoding="utf-8")
    for old, new in (
        ("limit = 100", "limit = 12"),
        ("epochs = 120", "epochs = 1"),
        ('"l2", "linf"', '"l2"'),
        ('"pgd", "boundary_walk"', '"pgd:steps=2"'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "quick-in-small.toml").write_text(text, encoding="utf-8")


FURNISHING = {"README.md": furnish_readme, "docs/bench.md": furnish_bench}


def _cifar10(folder: Path) -> None:
    # Ten classes of colors with noise, named as CIFAR-10's, in the Hugging Face layout.
    folder.mkdir()
    draws = np.random.default_rng(0)
    colors = draws.integers(40, 215, size=(10, 3))
    names = {"names": list(CIFAR10), "_type": "ClassLabel"}
    features = {"info": {"features": {"img": {"_type": "Image"}, "label": names}}}
    for split, count in (("train", TRAIN), ("test", TEST)):
        labels = np.arange(count) % 10
        noise = draws.normal(0.0, 40.0, size=(count, 32, 32, 3))
        images = np.clip(colors[labels][:, None, None] + noise, 0, 255).astype(np.uint8)
        cells = [{"bytes": _png(image), "path": None} for image in images]
        table = pa.table({"img": cells, "label": labels})
        metadata = {"huggingface": json.dumps(features)}
        pq.write_table(table.replace_schema_metadata(metadata), folder / f"{split}.parquet")


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
