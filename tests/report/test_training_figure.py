"""The figure of a training log shows every kind of number that the log has, and no other."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from robustcl.cli.main import robustcl
from robustcl.core.errors import InputError
from robustcl.report import training_figure as module
from robustcl.report.training_figure import PANELS, read_log, training_curves, write_training_figure

EPOCHS = np.arange(1, 31)


def a_log(place: Path, **other: np.ndarray) -> Path:
    falling = np.exp(-EPOCHS / 9)
    columns = {"epoch": EPOCHS, "steps": 10 * EPOCHS, "seconds": EPOCHS, "loss": 5 * falling}
    pd.DataFrame({**columns, **other}).to_csv(place, index=False)
    return place


def drawn(log: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, np.ndarray]]:
    """Return what each panel was given, by title."""
    found = {}

    def remember(ax, *, curves, title, **other) -> None:
        found[title] = curves
        training_curves(ax, curves=curves, title=title, **other)

    monkeypatch.setattr(module, "training_curves", remember)
    write_training_figure(log)
    return found


def test_parts_end_and_gaps_are_bridged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = a_log(
        tmp_path / "model.csv",
        nt_xent=np.exp(-EPOCHS / 9),
        suncet=np.where(EPOCHS <= 20, 1.0 / EPOCHS, np.nan),
        knn_accuracy=np.where(EPOCHS % 5 == 0, EPOCHS / 30, np.nan),
        contradiction_share=EPOCHS / 60,
        contradiction_top=EPOCHS / 300,
    )
    found = drawn(log, monkeypatch)
    assert [*found] == ["Loss", "kNN accuracy", "Contradiction"]
    assert [*found["Loss"]] == ["sum", "SimCLR (NT-Xent)", "SuNCEt"]
    assert found["Loss"]["SuNCEt"].tolist() == [[n, 1.0 / n] for n in range(1, 21)]
    assert found["kNN accuracy"]["kNN accuracy"][:, 0].tolist() == [5, 10, 15, 20, 25, 30]
    assert [*found["Contradiction"]] == ["of all repulsion", "of it, in the top 1 %"]


def test_every_measurement_has_a_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name for panel in PANELS for name in panel.columns} - {"loss"}
    found = drawn(a_log(tmp_path / "a.csv", **dict.fromkeys(names, EPOCHS / 30)), monkeypatch)
    assert [*found] == [panel.title for panel in PANELS]


def test_a_single_loss_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = drawn(a_log(tmp_path / "a.csv", nt_xent=5 * np.exp(-EPOCHS / 9)), monkeypatch)
    assert [*alone["Loss"]] == ["sum"]
    weighted = drawn(a_log(tmp_path / "b.csv", nt_xent=9 * np.exp(-EPOCHS / 9)), monkeypatch)
    assert len(weighted["Loss"]) == 2


def test_the_last_value_stands_beside_the_title() -> None:
    ax = Figure().add_subplot()
    points = np.array([[1.0, 0.2], [2.0, 0.875]])
    training_curves(ax, curves={"a": points}, title="Accuracy", note="", share=True)
    assert ax.get_title(loc="left") == "Accuracy" and ax.get_title(loc="right") == "87.5 %"
    assert np.array_equal(ax.lines[0].get_xydata(), points)


def test_the_command_draws_beside_the_log_always_the_same(tmp_path: Path) -> None:
    log = a_log(tmp_path / "model.csv")
    assert robustcl(["report", str(log)]) == 0
    content = (tmp_path / "model.png").read_bytes()
    assert Image.open(io.BytesIO(content)).width > 300
    assert robustcl(["report", str(log)]) == 0
    assert (tmp_path / "model.png").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.csv", "model.png"]


@pytest.mark.parametrize(
    "text", [None, "", "a,b\n1,2\n", "epoch,loss\n", "epoch,loss\n1,2,3\n1,2,3,4"]
)
def test_refuses_other_files(text: str | None, tmp_path: Path) -> None:
    place = tmp_path / "a.csv"
    if text is not None:
        place.write_text(text)
    with pytest.raises(InputError, match=r"a\.csv"):
        read_log(place)
