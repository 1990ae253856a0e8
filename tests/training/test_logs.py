"""The log for TensorBoard, read back: the numbers of the CSV file, also of a run that goes on."""

import csv
import dataclasses
import sys
from pathlib import Path

import pytest

from robustcl.core.errors import InputError
from robustcl.options.train import TrainOptions
from robustcl.training import Files, train_encoder
from robustcl.training.logs import tensorboard_log
from robustcl.workflows.train import train_and_save
from tests.training.test_loop import PLAIN, digits, encoder

REASON = "tensorboard is not installed; pip install 'robustcl[tensorboard]' runs these tests"


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    name = "tensorboard.backend.event_processing.event_accumulator"
    found = pytest.importorskip(name, reason=REASON).EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_it_holds_the_numbers_of_the_csv_file(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason=REASON)
    recipe = dataclasses.replace(PLAIN, epochs=3)
    files = Files(
        state=tmp_path / "state", log=tmp_path / "log.csv", measure_every=2,
        tensorboard=tmp_path / "events",
    )  # fmt: skip

    class Cut(Exception):
        pass

    def cut(_, epoch: int) -> dict[str, float]:
        if epoch == 2:
            raise Cut
        return {}

    with pytest.raises(Cut):
        train_encoder(encoder(), digits(256), recipe, files=files, progress=False, observe=cut)
    assert [step for step, _ in read(tmp_path / "events")["train/loss"]] == [4]
    train_encoder(
        encoder(), digits(256), recipe, files=dataclasses.replace(files, resume=True),
        progress=False,
    )  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    known = read(tmp_path / "events")
    assert set(known) == {f"train/{name}" for name in rows[0]} - {"train/steps"}
    for name in set(rows[0]) - {"steps"}:
        wanted = [(int(row["steps"]), float(row[name])) for row in rows if row[name]]
        assert [step for step, _ in known[f"train/{name}"]] == [step for step, _ in wanted]
        values = [value for _, value in known[f"train/{name}"]]
        assert values == pytest.approx([value for _, value in wanted], rel=1e-6)
    assert [step for step, _ in known["train/loss"]] == [4, 8, 12]
    assert [step for step, _ in known["train/knn_accuracy"]] == [8]


def test_what_a_killed_run_noted_too_early_is_forgotten(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason=REASON)
    with tensorboard_log(tmp_path) as write:
        for steps in (4, 8, 12):
            write({"steps": steps, "loss": 100.0 + steps, "spread": float("nan")})
    with tensorboard_log(tmp_path, steps=6) as write:  # its last state is of step 6
        write({"steps": 8, "loss": 8.0})
    assert read(tmp_path) == {"train/loss": [(4, 104.0), (8, 8.0)]}
    with tensorboard_log(tmp_path) as write:  # begun anew
        write({"steps": 4, "loss": 4.0})
    assert read(tmp_path) == {"train/loss": [(4, 4.0)]}


def test_without_the_package_the_cure_comes_before_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    place = tmp_path / "a.safetensors"
    options = TrainOptions(data="npz:nowhere", out=place, tensorboard=tmp_path / "events")
    with pytest.raises(InputError, match=r"pip install 'robustcl\[tensorboard\]'"):
        train_and_save(options)
    with tensorboard_log(None) as write:
        write({"steps": 1, "loss": 1.0})
    assert not list(tmp_path.iterdir())
