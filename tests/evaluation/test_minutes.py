"""A run within minutes: whole records, rates over prefixes, a choice that sees no outcome."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustcl.cli.main import certify, robustcl
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.data.dataset import Dataset
from robustcl.evaluation import minutes as room
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.evaluation.minutes import MinutesPlan, choose_plan, evaluate_within
from robustcl.records.reading import load_run, read_manifest
from robustcl.records.summary import interval95, summarize
from tests.evaluation.test_ranks import data
from tests.network import small_classifier


class Slow(nn.Module):
    """Scores of two pixels, after a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(self.seconds * len(images))
        return images.flatten(1)[:, :2] * 4


def slow(seconds: float) -> Classifier:
    return Classifier.from_scores(Slow(seconds), image_shape=(1, 2, 2)).eval()


def bright(count: int) -> Dataset:
    draws = np.random.default_rng(0)
    images = draws.uniform(size=(count, 2, 2, 1)).astype(np.float32)
    labels = (images.reshape(count, 4)[:, 1] > images.reshape(count, 4)[:, 0]).astype(np.int64)
    return Dataset("bright", images, labels, ("left", "right"))


def planned(model: Classifier, seconds: float, **more) -> MinutesPlan:
    audit = EvaluationConfig(eps=(0.25,), **more)
    return choose_plan(model, audit, seconds=seconds)


def timed(
    monkeypatch: pytest.MonkeyPatch, forward: float, gradient: float, sound: float = 0.01
) -> None:
    """Say what passes and a deterministic certificate take, whatever this machine does beside."""
    monkeypatch.setattr(room, "pass_times", lambda *_: (forward, gradient))
    monkeypatch.setattr(room, "_time_of_sound", lambda *_: sound)


def test_a_quick_network_gets_deterministic_certificates_and_the_reference(monkeypatch) -> None:
    timed(monkeypatch, 1e-5, 3e-5)
    plan = planned(small_classifier().eval(), 600.0)
    assert plan.audit.methods == ("sound",)
    assert plan.audit.attacks == ("autoattack",) and plan.audit.screened
    assert plan.images == 10_000


def test_a_slow_certificate_is_left_to_votes(monkeypatch) -> None:
    timed(monkeypatch, 1e-5, 3e-5, sound=0.5)
    plan = planned(small_classifier().eval(), 600.0)
    assert plan.audit.methods == ("smoothing:sigma=.25,n=10000,n_select=32",)


def test_a_slow_network_gets_few_samples_and_steps(monkeypatch) -> None:
    timed(monkeypatch, 0.01, 0.03)
    plan = planned(slow(0.0), 60.0)
    assert plan.audit.methods == ("smoothing:sigma=.25,n=100,n_select=32",)
    (attack,) = plan.audit.attacks
    assert attack in ("pgd:steps=10,restarts=1", "pgd:steps=20,restarts=1")
    assert plan.audit.one_budget
    assert not plan.audit.screened and plan.images >= 50
    timed(monkeypatch, 0.001, 0.003)
    more = planned(slow(0.0), 600.0)
    assert more.audit.methods[0] != plan.audit.methods[0]


def test_what_the_user_asks_for_stands() -> None:
    audit = EvaluationConfig(methods=("product",), attacks=("fmn:steps=5",), eps=(0.1, 0.5))
    plan = choose_plan(small_classifier().eval(), audit, seconds=60.0, methods=False, attacks=False)
    assert plan.audit == audit
    assert set(plan.most) == {"product", "certified_ball", "fmn:steps=5"}
    assert sum(plan.shares.values()) <= 1.0


def test_no_time_at_all_is_refused(monkeypatch) -> None:
    timed(monkeypatch, 0.2, 0.6)
    with pytest.raises(InputError, match=r"too short: 50 images alone take .*give at least"):
        planned(slow(0.2), 6.0)


def test_it_ends_in_time_with_whole_records(tmp_path: Path) -> None:
    model, dataset = slow(0.002), bright(400)
    plan = planned(model, 12.0)
    begun = time.monotonic()
    ended = evaluate_within(
        model, dataset, plan, tmp_path / "run", seconds=12.0, begun_at=begun, progress=False
    )
    assert time.monotonic() - begun <= 30  # a machine may be busy; benchmarks measure speed
    (smoothing,), (pgd,) = plan.audit.methods, plan.audit.attacks
    assert ended.prefixes["clean"] == 400
    assert ended.prefixes[smoothing] < 400 and ended.prefixes[pgd] < 400
    run = load_run(tmp_path / "run")
    assert run.manifest["complete"]
    for table, name in ((run.certificates, smoothing), (run.attacks, pgd)):
        rows = table[table["method"] == name]
        assert rows["index"].tolist() == list(range(ended.prefixes[name]))
    summary = summarize(run)
    assert summary.n == 400 and summary.attacked_n in (ended.prefixes[pgd], 400)
    if not ended.prefixes[pgd]:  # on a busy machine
        return
    kept = summary.by_attack[pgd]["at_headline"] * summary.attacked_n
    assert summary.headline_attacked == pytest.approx(kept / summary.attacked_n)
    assert summary.attacked_interval95 == interval95(round(kept), summary.attacked_n)


def test_rates_are_those_of_a_run_on_the_prefix_alone(tmp_path: Path) -> None:
    model, dataset = data(40)
    audit = EvaluationConfig(
        methods=("product",), attacks=("pgd:steps=5,restarts=1",), eps=(0.5,), one_budget=True,
        test_certificates=False, batch_size=8,
    )  # fmt: skip
    plan = choose_plan(model, audit, seconds=60.0, methods=False, attacks=False)
    stops = replace(plan, most=plan.most | {"product": 1e9 / 40})
    # The clock is at its end before certificates begin: images that are begun are none.
    ended = evaluate_within(
        model, dataset, plan, tmp_path / "all", seconds=60.0, begun_at=time.monotonic(),
        progress=False,
    )  # fmt: skip
    assert set(ended.prefixes.values()) == {40}
    none = evaluate_within(
        model, dataset, stops, tmp_path / "none", seconds=60.0, begun_at=time.monotonic(),
        progress=False,
    )  # fmt: skip
    assert none.prefixes["product"] == 0
    evaluate(model, dataset, audit, tmp_path / "plain", progress=False)
    first, second = (summarize(load_run(tmp_path / name)) for name in ("all", "plain"))
    assert first.certified_accuracy == second.certified_accuracy
    assert first.attacked_accuracy == second.attacked_accuracy
    place = tmp_path / "all" / "manifest.json"
    prefix = {"product": 17, "pgd:steps=5,restarts=1": 11}
    from robustcl.records.writing import update_manifest

    update_manifest(place.parent, {"prefixes": prefix})
    cut = summarize(load_run(tmp_path / "all"))
    evaluate(model, dataset.select(np.arange(17)), audit, tmp_path / "17", progress=False)
    few = summarize(load_run(tmp_path / "17"))
    assert cut.certified_n == 17 and cut.headline_certified == few.headline_certified
    assert cut.median_certified_radius == few.median_certified_radius
    evaluate(model, dataset.select(np.arange(11)), audit, tmp_path / "11", progress=False)
    least = summarize(load_run(tmp_path / "11"))
    assert cut.attacked_n == 11 and cut.headline_attacked == least.headline_attacked


def test_resuming_adds_images_and_ends_as_one_run(tmp_path: Path) -> None:
    model, dataset = slow(0.002), bright(120)
    plan = planned(model, 8.0)
    (pgd,) = plan.audit.attacks
    counts = []
    for resume in (False, True, True):
        ended = evaluate_within(
            model, dataset, plan, tmp_path / "run", seconds=8.0, begun_at=time.monotonic(),
            progress=False, resume=resume,
        )  # fmt: skip
        counts.append(ended.prefixes[pgd])
    assert counts[0] <= counts[1] <= counts[2]
    run = load_run(tmp_path / "run")
    rows = run.attacks[run.attacks["method"] == pgd]
    assert rows["index"].tolist() == list(range(counts[2]))
    assert not run.attacks.duplicated(["index", "method"]).any()


def test_the_command_plans_says_and_ends(tmp_path: Path, capsys) -> None:
    from tests.cli.random_checkpoint import random_checkpoint

    checkpoint, source = random_checkpoint(tmp_path, count=60)
    words = ["run", str(checkpoint), "--data", source, "--minutes", "0.2", "--quiet", "--json"]
    begun = time.monotonic()
    assert certify([*words, "--out", str(tmp_path / "run")]) == 0
    assert time.monotonic() - begun < 60
    out, said = capsys.readouterr()
    found = json.loads(out)
    assert found["n"] == 13 and found["headline_certified"] is not None
    assert "plan for 0.2 minutes: 13 images clean" in said and "ended after" in said
    assert read_manifest(tmp_path / "run")["prefixes"]["sound"] == 13
    assert certify([*words, "--out", str(tmp_path / "run")]) == 2  # the folder holds a run
    gates = ["--require", "clean_accuracy>=0.9999"]
    capsys.readouterr()
    assert certify([*words, *gates, "--resume", "--out", str(tmp_path / "run")]) == 3
    assert "lower end of its 95 % interval" in "".join(capsys.readouterr())
    assert robustcl(["report", str(tmp_path / "run"), *gates]) == 3
    assert "lower end of its 95 % interval" in "".join(capsys.readouterr())


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "1e9"])
def test_minutes_that_are_none_are_refused(minutes: str, tmp_path: Path, capsys) -> None:
    words = ["run", "absent.safetensors", "--data", "digits", "--minutes", minutes]
    assert certify([*words, "--out", str(tmp_path / "run")]) == 2
    assert "--minutes" in capsys.readouterr().err


def test_planning_looks_at_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    model = small_classifier().eval()
    forward = model.encoder.forward

    def spy(images: Tensor) -> Tensor:
        seen.append(images.detach().clone())
        return forward(images)

    monkeypatch.setattr(model.encoder, "forward", spy)
    torch.manual_seed(1)
    planned(model, 60.0)
    torch.manual_seed(2)
    planned(model, 60.0)
    noise = [part for part in seen if len(part) > 1]
    assert noise and all(torch.equal(part, noise[0]) for part in noise)
