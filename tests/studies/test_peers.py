"""Other packages: skipped with a message where absent, and no speed without agreement."""

import sys
from typing import Any

import numpy as np
import pytest
import torch

from robustcl.data import Dataset
from robustcl.report.suite_folder import load_suite_run
from robustcl.studies import Place, cells, read_suite, run_suite
from robustcl.studies.interleaved import Cost, interleaved, median_interval, ratio
from robustcl.studies.peers import PEERS, AbsentError, ComparisonInputs
from robustcl.studies.peers.comparison import compare_programs
from robustcl.studies.peers.nearest import our_points, verified_norms
from robustcl.studies.peers.rows import counting
from tests.cli.random_checkpoint import random_checkpoint
from tests.network import small_classifier, some_images


def inputs(*, count: int = 6, repeats: int = 1) -> ComparisonInputs:
    images = (255 * some_images(count).permute(0, 2, 3, 1)).to(torch.uint8).numpy()
    names = tuple("abcdef")
    dataset = Dataset("random/test", images, np.arange(count) % 6, names)
    return ComparisonInputs(small_classifier(), dataset, dataset, repeats=repeats, batch_size=count)


MODULES = {
    "autoattack": "pyautoattack",
    "torchattacks": "torchattacks",
    "art_clever": "art.metrics",
    "art_smoothing": "art.estimators.certification.randomized_smoothing",
    "auto_lirpa": "auto_LiRPA",
    "torchlip": "deel.torchlip",
    "lightly": "lightly.loss",
    "torchmetrics": "torchmetrics.functional.classification",
}


@pytest.mark.parametrize("name", MODULES)
def test_an_absent_package_is_said_with_its_cure(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, MODULES[name], None)  # as if it were not installed
    with pytest.raises(AbsentError, match=r"^no .*(pip install|checkout)"):
        PEERS[name](inputs())


def test_every_peer_is_tested_for_absence() -> None:
    assert set(MODULES) == set(PEERS)


def test_an_absent_peer_is_skipped_and_fails_nothing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, data = random_checkpoint(tmp_path, count=10)
    suite = read_suite("peers", {
        "question": "Who is there?",
        "data": [data],
        "peers": ["lightly"],
        "models": {"given": {"checkpoint": str(checkpoint)}},
    })  # fmt: skip
    monkeypatch.setitem(sys.modules, "lightly.loss", None)
    states = run_suite(suite, Place(tmp_path / "out"))
    assert [cell.kind for cell in cells(suite)] == ["model", "peer"]
    assert [state.status for state in states] == ["done", "skipped"]
    told = load_suite_run(tmp_path / "out").cells[1]
    assert "pip install lightly" in told["reason"]


@pytest.mark.parametrize("agree", [True, False])
def test_no_speed_without_agreement(agree: bool) -> None:
    calls: list[str] = []
    found = compare_programs(
        inputs(repeats=3),
        "task",
        "other 1.0",
        ours=lambda: calls.append("ours"),
        theirs=lambda: calls.append("theirs"),
        agreement=lambda *_: (agree, "numbers"),
    )
    assert found.agree == agree and found.agreement == "numbers"
    assert (found.ratio is not None) == agree
    assert len(calls) == (8 if agree else 2)  # one untimed run of each, and three turns


def test_sides_take_turns_and_go_first_in_turn() -> None:
    calls: list[str] = []
    interleaved(lambda: calls.append("a"), lambda: calls.append("b"), repeats=4, warm=False)
    assert calls == ["b", "a", "a", "b", "b", "a", "a", "b"]


def test_a_ratio_is_theirs_over_ours() -> None:
    pairs = [(Cost(1.0, 2.0), Cost(3.0, 1.0)), (Cost(1.0, 2.0), Cost(5.0, 1.0))]
    wall = ratio(pairs, clock="wall")
    assert (wall.median, wall.low, wall.high) == (4.0, 3.0, 5.0)
    assert (wall.ours, wall.theirs) == (1.0, 4.0)
    assert ratio(pairs, clock="processor").median == 0.5


def test_the_interval_covers_the_median() -> None:
    # P(X_(2) <= median <= X_(8)) of 9 values is 1 - 2 P(Bin(9, 1/2) <= 1) = 0.961.
    middle, low, high = median_interval([float(k) for k in range(9)])
    assert (middle, low, high) == (4.0, 1.0, 7.0)
    draws = np.random.default_rng(0).normal(size=(2000, 9))
    covered = [low <= 0.0 <= high for _, low, high in map(median_interval, draws.tolist())]
    assert np.mean(covered) > 0.95


def test_rows_are_counted_as_they_pass() -> None:
    model, images = small_classifier(), some_images(4).requires_grad_()
    with counting(model) as rows:
        model(images).sum().backward()
        model(images.detach()[:3])
    assert (rows.forwards, rows.gradients) == (7, 4)  # one backward pass, of four rows
    model(images)
    assert rows.forwards == 7


def test_points_that_do_not_win_have_no_norm() -> None:
    model, images = small_classifier(), some_images(4)
    left = model(images).argmax(dim=1)
    assert verified_norms(model, images, images, left, "l2").isinf().all()
    points = our_points("pgd", model, images, left, "l2", steps=20)
    found = verified_norms(model, images, points, left, "l2")
    assert found.isfinite().any()
    won = found.isfinite()
    assert (model(points)[won].argmax(dim=1) != left[won]).all()


def test_two_certificates_of_a_lipschitz_network_agree() -> None:
    pytest.importorskip("deel.torchlip")
    (found,) = PEERS["torchlip"](inputs())
    assert found.agree, found.agreement
    assert found.ratio is not None and found.repeats == 1
