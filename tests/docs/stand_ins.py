"""Say what takes the place of large data and long runs where the pages' blocks are run."""

import io
import json
import shutil
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torchvision
from PIL import Image

from robustcl.models.encoders import cifar_resnet18
from tests.docs.pages import ROOT, Block
from tests.models.sources.hub_folders import open_clip_folder

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN, TEST = 1000, 260


@dataclass(frozen=True)
class Substitution:
    """State that a page's words are replaced by others, exactly once, when its blocks are run."""

    page: str
    old: str
    new: str


# Everything that differs from the pages. What a page says and what is run are otherwise the same.
TABLE = Path(__file__).with_name("substitutions.toml")
SUBSTITUTIONS = tuple(
    Substitution(page, old, new)
    for page, pairs in tomllib.loads(TABLE.read_text(encoding="utf-8")).items()
    for old, new in pairs
)

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
    text = (ROOT / "robustcl" / "studies" / "suites" / "quick.toml").read_text(encoding="utf-8")
    for old, new in (
        ("limit = 100", "limit = 12"),
        ("epochs = 120", "epochs = 1"),
        ('"l2", "linf"', '"l2"'),
        ('"pgd", "boundary_walk"', '"pgd:steps=2"'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "quick-in-small.toml").write_text(text, encoding="utf-8")


def furnish_lightly(folder: Path) -> None:
    """Add photos, and a checkpoint as Lightning writes it of a SimCLR module of lightly."""
    furnish_readme(folder)
    network = torchvision.models.resnet18()
    backbone = torch.nn.Sequential(*list(network.children())[:-1])
    state = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    state |= {"projection_head.layers.0.weight": torch.randn(64, 512)}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4"}, folder / "lightly.ckpt")


def furnish_solo_learn(folder: Path) -> None:
    """Add photos, and a checkpoint as solo-learn writes it."""
    furnish_readme(folder)
    network = cifar_resnet18(stem_padding=2)
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    state |= {"projector.0.weight": torch.randn(64, 512)}
    torch.save({"state_dict": state}, folder / "solo.ckpt")


def furnish_clip(folder: Path) -> None:
    """Add photos, and the folder of a small open_clip model."""
    furnish_readme(folder)
    open_clip_folder(folder / "clip")


FURNISHING = {
    "README.md": furnish_readme,
    "docs/bench.md": furnish_bench,
    "docs/sources/torchvision.md": furnish_readme,
    "docs/sources/timm.md": furnish_readme,
    "docs/sources/hugging-face.md": furnish_readme,
    "docs/sources/open-clip.md": furnish_clip,
    "docs/sources/lightly.md": furnish_lightly,
    "docs/sources/solo-learn.md": furnish_solo_learn,
    "docs/sources/own-code.md": furnish_readme,
}
# Libraries without which a page cannot be run.
REQUIRED = {
    "docs/sources/timm.md": ("timm",),
    "docs/sources/hugging-face.md": ("transformers",),
    "docs/sources/open-clip.md": ("open_clip",),
}


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
