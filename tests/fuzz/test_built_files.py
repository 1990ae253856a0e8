"""Every malformed file that the builders make is refused with its name, and sound ones are not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import RobustclError
from robustcl.evaluation.reproducer import load_reproducer, save_reproducer
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import small_convnet
from robustcl.models.heads import PrototypeHead
from robustcl.models.weights.reading import read_networks
from robustcl.options.recipe_file import with_recipe
from robustcl.options.train import TrainOptions
from robustcl.records.arrays import array_faults, every_row
from robustcl.records.reading import load_run
from robustcl.studies import load_suite
from robustcl.workflows.recipes import recipe_of
from tests.fuzz import build_files
from tests.fuzz.build_parts import Cases
from tests.report.synthetic_run import four_images, write_run

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "runs"
ARGUMENTS = {"channels": 1, "image_size": 8, "width": 2, "embedding_size": 3}
# What is wrong with the values is the command's to find, not the reader's.
TAKEN = (
    *("sparse", "quantized", "meta", "complex", "bool", "float8", "mean is", "mean of", "NaN"),
    *("wider", "keys of control", "long keys", "right shape by a view", "keys are None"),
)


def accepted(cases: Cases, reader: Callable[[Path], object], *, most: int = 400) -> list[str]:
    """List what was read, or refused otherwise than in one printable line."""
    found = []
    for what, place in cases:
        try:
            reader(place)
        except RobustclError as error:
            said = str(error)
            if "\n" in said or not said.isprintable() or len(said) > 2000:
                found.append(f"{what}: {said[:most]}")
        else:
            found.append(what)
    return found


def sound_checkpoint(folder: Path) -> Path:
    torch.manual_seed(0)
    encoder = Encoder(small_convnet(**ARGUMENTS), image_shape=(1, 8, 8), mean=(0.3,), std=(0.4,))
    model = Classifier(encoder, PrototypeHead(torch.randn(10, 3))).eval()
    stated = Description("small_convnet", ARGUMENTS, (1, 8, 8), (0.3,), (0.4,), 3)
    save_checkpoint(folder / "sound.safetensors", model, stated)
    return folder / "sound.safetensors"


def test_checkpoints(tmp_path: Path) -> None:
    sound = sound_checkpoint(tmp_path)
    assert load_checkpoint(sound).classifier is not None
    for build in (build_files.safetensors_files, build_files.checkpoints):
        assert not accepted(build(tmp_path, sound), load_checkpoint)


def test_weight_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = small_convnet(**ARGUMENTS).state_dict()
    torch.save(weights, "sound.pth")
    assert read_networks("sound.pth")[0].tensors.keys() == weights.keys()
    found = accepted(build_files.weight_files(tmp_path, weights), read_networks)
    assert all(what.startswith(TAKEN) for what in found), found
    assert not (tmp_path / "ran-a-program").exists()


def test_reproducers(tmp_path: Path) -> None:
    sound = tmp_path / "sound.safetensors"
    save_reproducer(sound, load_reproducer(GOLDEN / "violation.safetensors"))
    assert not accepted(build_files.reproducers(tmp_path, sound), load_reproducer)


def train_recipe(place: Path) -> None:
    words = with_recipe(["--recipe", str(place)], TrainOptions)
    given = dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
    known = {key.replace("-", "_"): value for key, value in given.items()}
    whole = {"epochs", "seed", "batch_size", "projector", "label_seed"}
    real = {"labels", "learning_rate", "momentum"}
    read = {
        key: int(value) if key in whole else float(value) if key in real else value
        for key, value in known.items()
    }
    if read.get("arch") == "os:system" or read.get("views") == "x":
        raise RobustclError("found by the command line")
    recipe_of(TrainOptions(data="digits", out=Path("a"), **read))  # pyright: ignore[reportArgumentType]


def test_recipes_and_suites(tmp_path: Path) -> None:
    assert not accepted(build_files.recipes(tmp_path), train_recipe)
    assert not accepted(build_files.suites(tmp_path), lambda place: load_suite(str(place)))


def test_run_folders(tmp_path: Path) -> None:
    sound = write_run(tmp_path / "run", four_images())
    assert len(load_run(sound).clean) == 4
    assert not accepted(build_files.run_folders(tmp_path, sound), load_run)


def test_damaged_arrays_are_named_and_left_out(tmp_path: Path) -> None:
    assert not array_faults(GOLDEN / "run")
    for what, place in build_files.damaged_arrays(tmp_path, GOLDEN / "run"):
        found = array_faults(place)
        assert len(found) == 1, what
        assert "--resume" in found[0][1] and found[0][1].isprintable(), what
        name = what.partition(".npz")[0]
        assert every_row(place, name, lenient=True, shared=("eps", "evaluations", "attack")) == {}
