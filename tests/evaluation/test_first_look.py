"""What a run says before it starts: clean accuracy, a warning at chance, its expected time."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from robustcl.core.numbers import time_text
from robustcl.data import Dataset
from robustcl.evaluation.check_model import FirstLook, chance_warning, first_look
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.records.reading import load_run
from tests.network import SHAPE, small_classifier, some_images


def labeled_by(model, images: torch.Tensor, *, wrong: int = 0) -> Dataset:
    with torch.no_grad():
        labels = model(images).argmax(dim=1).numpy()
    labels[:wrong] = (labels[:wrong] + 1) % model.num_classes
    return Dataset("some", images.permute(0, 2, 3, 1).numpy(), labels)


@pytest.mark.parametrize("count", [1, 5, 64, 130])
def test_first_look_counts_who_is_right(count: int) -> None:
    model = small_classifier()
    data = labeled_by(model, some_images(count), wrong=count // 4)
    look = first_look(model, data, batch_size=32)
    assert (look.images, look.right) == (count, count - count // 4)
    assert look.seconds > 0.0


def test_first_look_of_many_images_is_spread_over_them() -> None:
    model = small_classifier()
    data = labeled_by(model, some_images(200), wrong=100)  # the first half is wrong
    look = first_look(model, data, batch_size=32, most=50)
    assert look.images == 50 and 24 <= look.right <= 26


def test_first_look_leaves_the_model_as_it_was() -> None:
    model = small_classifier().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first_look(model, labeled_by(small_classifier(), some_images(9)), batch_size=4)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("right", "images", "own", "classes", "warned"),
    [
        (0, 60, 0.96, 10, True),  # shifted labels
        (9, 100, 0.9, 10, True),
        (52, 100, 0.95, 2, True),
        (9, 100, None, 10, False),  # nobody knows what the head could do
        (9, 100, 0.12, 10, False),  # a head that guesses everywhere
        (60, 100, 0.95, 10, False),  # worse than its own data, but no guess
        (1, 2, 0.96, 10, False),  # two images say little
        (100, 100, 0.9, 10, False),
    ],
)
def test_near_chance_is_warned_about_where_the_head_was_better(
    right: int, images: int, own: float | None, classes: int, warned: bool
) -> None:
    said = chance_warning(FirstLook(images, right, 0.1), own=own, classes=classes)
    assert (said is not None) == warned
    if said is not None:
        assert f"{own:.1%}" in said and "near chance" in said


def test_a_run_says_beforehand_how_long_it_may_take(tmp_path: Path) -> None:
    model, told = small_classifier(), []
    data = labeled_by(model, some_images(40))
    audit = EvaluationConfig(
        methods=("product", "smoothing:n=200,n_select=50"), attacks=("pgd:steps=20",)
    )
    begun = time.monotonic()
    evaluate(model, data, audit, tmp_path / "run", progress=False,
             tell=lambda text: told.append((text, time.monotonic())))  # fmt: skip
    ended = time.monotonic()
    (read, _), (text, said_at) = told
    assert read.startswith("the network was read in ")
    assert text.startswith("expected time: roughly ")
    assert begun < said_at < ended
    clean = load_run(tmp_path / "run").clean
    assert len(clean) == 40


def test_the_time_of_a_foreign_attack_is_said_not_to_be_known(tmp_path: Path) -> None:
    pytest.importorskip("torchattacks")
    model, told = small_classifier(), []
    data = labeled_by(model, some_images(4))
    audit = EvaluationConfig(methods=(), attacks=("torchattacks:PGDL2,steps=20",), eps=(0.1,))
    evaluate(model, data, audit, tmp_path / "run", progress=False, tell=told.append)
    assert told[0].endswith("and torchattacks:PGDL2,steps=20, whose time is not known")


@pytest.mark.parametrize(
    ("method", "attack", "kind"),
    [("smoothing:n=300,n_select=60", "none", "certificate"), ("none", "pgd:steps=15", "attack")],
)
def test_expected_passes_are_those_that_are_recorded(
    tmp_path: Path, method: str, attack: str, kind: str
) -> None:
    from robustcl.evaluation import expected_time as room

    model = small_classifier()
    data = labeled_by(model, some_images(24))
    audit = EvaluationConfig(
        methods=() if method == "none" else (method,),
        attacks=() if attack == "none" else (attack,),
        eps=(0.01,),  # nobody is fooled, so that the attack goes through all its steps
        test_certificates=False,
        batch_size=24,
    )
    evaluate(model, data, audit, tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    expected = room.passes_of(audit, 1, kind, method if kind == "certificate" else attack)
    assert expected is not None
    if kind == "certificate":
        assert expected[0] == pytest.approx(run.certificates["forwards"].mean(), rel=0.05)
    else:
        searched = expected[1] - room.BISECTION - room.WALK  # nothing is found to be shrunk
        assert searched == pytest.approx(run.attacks["gradients"].mean(), rel=0.3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (61.0, "61 s"), (261.0, "4.3 minutes"), (9000.0, "2.5 hours"),
     (400_000.0, "4.6 days"), (1e9, "11,574 days")],
)  # fmt: skip
def test_rough_times_are_spelled_roughly(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_images_whose_scores_are_no_numbers_count_as_wrong() -> None:
    model = small_classifier()
    data = labeled_by(model, some_images(6))
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)  # pyright: ignore[reportCallIssue]
    assert first_look(model, data, batch_size=4).right == 0
    without = Dataset("none", data.images, data.labels, labeled=False)
    assert first_look(model, without, batch_size=4).right == 0  # -1 is no class to be right about
    assert SHAPE == (1, 8, 8) and np.isfinite(data.images).all()
