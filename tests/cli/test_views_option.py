"""--views: the ordinary commands on a multi-view model, attack beside certificate."""

# pandas annotates comparisons as unions that no assertion narrows.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false

import json
from dataclasses import replace
from pathlib import Path

import pytest

from robustcl import certify
from robustcl.cli.main import certify as certify_command
from robustcl.cli.main import robustcl
from robustcl.records import load_run, per_image, summarize
from tests.cli.random_checkpoint import random_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    random_checkpoint(folder)
    return folder


def command(place: Path, name: str, out: Path, *more: str) -> list[str]:
    data = ["--data", f"npz:{place / 'data.npz'}", "--limit", "6", "--batch-size", "6"]
    return [name, str(place / "model.safetensors"), *data, "--out", str(out), "--quiet", *more]


def test_attack_takes_views(place: Path, tmp_path: Path, capsys) -> None:
    more = ("--views", "shift:pixels=1", "--count", "3", "--eps", "0.08", "--json")
    arguments = command(place, "attack", tmp_path / "run", *more, "--protocol", "fast")
    assert robustcl(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    run = load_run(tmp_path / "run")
    assert set(run.attacks["method"]) == {
        "every_view:steps=40,restarts=4", "pgd:steps=40,restarts=4"
    }  # fmt: skip
    assert set(run.attacks["subject"]) == {"multi-view model"}
    best = run.attacks.groupby("index")["radius"].min().astype(float)
    right = run.clean.set_index("index")["predicted"] == run.clean.set_index("index")["label"]
    assert found["robust_accuracy"] == (right & (best > 0.08)).mean()
    # Three views are three passes of the network for each gradient.
    assert (run.attacks["gradients"] % 3 == 0).all()
    # Another aggregate is another run.
    assert robustcl([*arguments, "--resume", "--aggregate", "vote"]) == 2


def test_run_certifies_and_attacks_one_subject(place: Path, tmp_path: Path) -> None:
    more = ("--views", "crop", "--count", "3", "--methods", "multi_view", "--eps", "4")
    assert certify_command(command(place, "run", tmp_path / "run", *more)) == 0
    run = load_run(tmp_path / "run")
    summary, images = summarize(run), per_image(run)
    assert set(run.certificates["subject"]) == {"multi-view model"}
    assert summary.pairs >= 3 and not summary.violations
    assert (images["certified"] > 0).any()
    assert (images["certified"] <= images["attacked"]).all()
    assert (
        summary.certified_accuracy
    )  # the certified-attacked curve is about the model that was measured
    assert (tmp_path / "run" / "report.html").is_file()


def test_certificates_of_one_view_are_refused(place: Path, tmp_path: Path, capsys) -> None:
    more = ("--views", "crop", "--count", "2", "--methods", "product")
    assert certify_command(command(place, "run", tmp_path / "run", *more)) == 2
    assert "multi_view" in capsys.readouterr().err
    more = ("--views", "crop", "--count", "0")
    assert certify_command(command(place, "run", tmp_path / "none", *more)) == 2
    assert "0 views" in capsys.readouterr().err


def test_a_certificate_that_lies_is_found_out_and_replayed(
    place: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    honest = certify.METHODS["multi_view"]

    def boastful(classifier, images, **options):
        claim = honest.function(classifier, images, **options)
        return replace(claim, radius=claim.radius * 0 + 3.0)

    monkeypatch.setitem(certify.METHODS, "multi_view", replace(honest, function=boastful))
    views = ("--views", "shift", "--count", "2")
    more = (*views, "--methods", "multi_view", "--eps", "2")
    assert certify_command(command(place, "run", tmp_path / "run", *more)) == 1
    files = sorted((tmp_path / "run" / "violations").iterdir())
    again = ["reproduce", str(files[0]), "--checkpoint", str(place / "model.safetensors")]
    assert robustcl([*again, *views]) == 1
    assert robustcl(again) == 2  # the model of one view is another network
    assert "give the checkpoint of that run" in capsys.readouterr().err
