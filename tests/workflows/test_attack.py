"""robustcl attack: three protocols on one model, beside certificates, resumed after a cut."""

# pandas annotates comparisons as unions that no assertion narrows.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from robustcl.cli.main import robustcl
from robustcl.records.reading import load_run
from tests.cli.random_checkpoint import random_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network, and images whose labels are its predictions but for each fourth."""
    folder = tmp_path_factory.mktemp("attack")
    random_checkpoint(folder)
    return folder


def command(place: Path, out: Path, *more: str) -> list[str]:
    start = ["attack", str(place / "model.safetensors"), "--data", f"npz:{place / 'data.npz'}"]
    return [*start, "--out", str(out), "--quiet", "--split", "test", *more]


def plain(folder: Path) -> list[dict]:
    lines = (folder / "records-0.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    own = ("session", "crc")  # which session made a record, and the checksum of that
    found = [
        {k: v for k, v in record.items() if "second" not in k and k not in own}
        for record in records
    ]
    return sorted(found, key=lambda record: (record["kind"], record["method"], record["index"]))


@pytest.fixture(scope="module")
def standard(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("standard") / "run"
    arguments = command(place, out, "--eps", "0.08", "--limit", "12", "--batch-size", "6")
    assert robustcl(arguments) == 0
    return out


def test_json_alone_is_on_stdout_and_agrees_with_the_records(place: Path, tmp_path, capsys) -> None:
    arguments = command(place, tmp_path / "run", "--eps", "5/255", "--norm", "linf", "--json")
    assert robustcl([*arguments, "--protocol", "fast"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    run = load_run(tmp_path / "run")
    right = run.clean["predicted"] == run.clean["label"]
    kept = right & (run.attacks["radius"] > 5 / 255 * (1 + 1e-6))
    assert right.mean() > kept.mean()
    assert (run.attacks["radius"][~right] > 5 / 255).any()  # wrong ones that stand do not count
    assert found["clean_accuracy"] == right.mean()
    assert found["robust_accuracy"] == kept.mean()
    low, high = found["robust_interval95"]
    assert 0 <= low <= found["robust_accuracy"] <= high <= 1
    assert found["eps"] == 5 / 255
    assert "robust accuracy at L∞" in captured.err
    assert run.manifest["complete"]


def test_l1_is_attacked_and_certificates_of_l2_spare_images(place: Path, tmp_path, capsys) -> None:
    arguments = command(place, tmp_path / "run", "--norm", "l1", "--eps", "1e-4", "--limit", "6")
    assert robustcl([*arguments, "--json", "--methods", "product"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert "robust accuracy at L1" in captured.err
    assert found["decided"] == {"certified": 6}
    assert found["robust_accuracy"] == found["clean_accuracy"]
    run = load_run(tmp_path / "run")
    assert set(run.certificates["norm"]) == {"l1"}
    arguments = command(place, tmp_path / "far", "--norm", "l1", "--eps", "60", "--limit", "6")
    assert robustcl([*arguments, "--json", "--protocol", "fast"]) == 0
    assert json.loads(capsys.readouterr().out)["robust_accuracy"] == 0.0


def test_certified_images_are_spared_and_all_others_are_not(standard: Path) -> None:
    run = load_run(standard)
    table = run.attacks.set_index("index")
    proved = run.certificates.set_index("index")["radius"] >= 0.08
    spared = table["decided"] == "certified"
    assert 0 < int(proved.sum()) < len(table)
    assert (spared == proved.reindex(table.index)).all()
    assert (table["gradients"][spared] == 0).all()
    assert (table["gradients"][~spared] > 0).all()
    assert np.isinf(table["radius"][spared]).all()
    assert (table["radius"][table["decided"].isin(["pgd", "reference"])] <= 0.08).all()


def test_standard_is_at_least_as_strong_as_fast(place: Path, standard: Path, tmp_path) -> None:
    arguments = command(place, tmp_path / "fast", "--eps", "0.08", "--limit", "12")
    assert robustcl([*arguments, "--protocol", "fast"]) == 0
    fast = load_run(tmp_path / "fast").attacks.set_index("index")["radius"] <= 0.08
    strong = load_run(standard).attacks.set_index("index")["radius"] <= 0.08
    assert (strong | ~fast).all()


def test_a_cut_run_is_resumed_and_another_one_refused(
    place: Path, standard: Path, tmp_path: Path
) -> None:
    shutil.copytree(standard, tmp_path / "cut")
    records = tmp_path / "cut" / "records-0.jsonl"
    lines = records.read_text().splitlines(keepends=True)
    records.write_text("".join(lines[:-4]) + lines[-4][:25])
    more = ("--eps", "0.08", "--limit", "12", "--batch-size", "6")
    assert robustcl(command(place, tmp_path / "cut", *more)) == 2
    assert robustcl(command(place, tmp_path / "cut", *more, "--resume")) == 0
    assert plain(tmp_path / "cut") == plain(standard)
    assert robustcl(command(place, tmp_path / "cut", *more, "--resume", "--protocol", "deep")) == 2


def test_bad_budgets_are_refused(place: Path, tmp_path: Path, capsys) -> None:
    assert robustcl(command(place, tmp_path / "run", "--eps", "-1")) == 2
    assert "not positive" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
