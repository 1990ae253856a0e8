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
from robustcl.evaluation import call_times, minutes, minutes_plan
from robustcl.evaluation.call_times import CallTimes, in_layout, measure_calls
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.evaluation.minutes import _Clock, _through, evaluate_within
from robustcl.evaluation.minutes_plan import MinutesPlan, choose_plan
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
    monkeypatch: pytest.MonkeyPatch,
    forward: float,
    gradient: float,
    sound: float = 0.01,
    share: float = 0.5,
) -> None:
    """Say what passes and a certificate take, and how much of the radius the certificate proves."""
    monkeypatch.setattr(call_times, "pass_times", lambda *_: (forward, gradient))
    found = {"sound": (sound, share), "product": (sound / 100, share / 2)}
    monkeypatch.setattr(minutes_plan, "_try_certificates", lambda *_: found)


def test_a_quick_network_gets_deterministic_certificates_and_the_reference(monkeypatch) -> None:
    timed(monkeypatch, 1e-5, 3e-5)
    plan = planned(small_classifier().eval(), 600.0)
    assert plan.audit.methods == ("sound",)
    assert plan.audit.attacks == ("autoattack",) and plan.audit.screened
    assert plan.images == 10_000


def test_a_slow_certificate_is_left_to_votes(monkeypatch) -> None:
    timed(monkeypatch, 1e-5, 3e-5, sound=1e4)
    plan = planned(small_classifier().eval(), 600.0)
    assert plan.audit.methods == ("smoothing:sigma=.25,n=10000,n_select=32",)
    timed(monkeypatch, 1e-5, 3e-5, sound=10.0)
    assert planned(small_classifier().eval(), 600.0).audit.methods == ("product",)


def test_a_certificate_that_tells_nothing_is_left_to_votes(monkeypatch) -> None:
    timed(monkeypatch, 1e-5, 3e-5, share=0.01)
    (method,) = planned(small_classifier().eval(), 600.0).audit.methods
    assert method.startswith("smoothing")
    monkeypatch.undo()
    torch.manual_seed(0)
    deep: list[nn.Module] = [nn.Flatten()]
    for width in (16, *[32] * 11):
        deep += [nn.Linear(width, 32), nn.ReLU()]
    network = nn.Sequential(*deep, nn.Linear(32, 2))
    audit = EvaluationConfig(eps=(0.25,))
    model = Classifier.from_scores(network, image_shape=(1, 4, 4)).eval()
    _, share = minutes_plan._try_certificates(model, audit, "cpu")["sound"]
    shallow = Classifier.from_scores(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)),
                                     image_shape=(1, 4, 4)).eval()  # fmt: skip
    _, whole = minutes_plan._try_certificates(shallow, audit, "cpu")["sound"]
    assert share < 0.1 and whole == pytest.approx(1.0, rel=1e-3)


def test_a_slow_network_gets_few_samples_and_steps(monkeypatch) -> None:
    timed(monkeypatch, 0.01, 0.03)
    plan = planned(slow(0.0), 60.0)
    # So few samples do not bound a radius well: whether that of the budget is certified is decided.
    assert plan.audit.methods == ("smoothing:sigma=.25,n=500,n_select=32,target=0.25",)
    (attack,) = plan.audit.attacks
    assert attack in ("pgd:steps=10,restarts=1", "pgd:steps=20,restarts=1")
    assert plan.audit.one_budget
    assert not plan.audit.screened and plan.images >= 50
    timed(monkeypatch, 0.001, 0.003, share=0.0)
    more = planned(slow(0.0), 600.0)
    assert more.audit.methods == ("smoothing:sigma=.25,n=2000,n_select=32",)
    several = replace(EvaluationConfig(), eps=(0.1, 0.25))
    curve = choose_plan(slow(0.0), several, seconds=60.0).audit
    assert curve.attacks[0].startswith("fmn:steps=") and "target" not in curve.methods[0]


def test_more_minutes_never_leave_room_for_fewer_images(monkeypatch) -> None:
    # Strength grows only where hundreds of images still fit.
    timed(monkeypatch, 7e-4, 2.3e-3)
    counts = []
    for many in (1, 2, 3, 5, 10, 20, 30, 60, 240):
        plan = planned(slow(0.0), 60.0 * many)
        (attack,) = plan.audit.attacks
        each = plan.costs[attack].of(32, plan.calls) / 32
        counts.append(0.52 * 60.0 * many / each)
        assert counts[-1] >= (400 if "restarts=5" in attack or attack == "autoattack" else 100)
    assert attack == "autoattack"  # in four hours
    assert counts[4] > counts[0] / 0.7**2


def test_what_the_user_asks_for_stands() -> None:
    audit = EvaluationConfig(methods=("product",), attacks=("fmn:steps=5",), eps=(0.1, 0.5))
    plan = choose_plan(small_classifier().eval(), audit, seconds=60.0, methods=False, attacks=False)
    assert plan.audit == audit
    assert set(plan.costs) == {"product", "certified_ball", "fmn:steps=5"}
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
    # No certificate can end in time: none is begun.
    stops = replace(plan, costs=plan.costs | {"product": minutes_plan.Costs(seconds=1e9)})
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


def test_a_run_that_is_interrupted_counts_what_had_ended(tmp_path: Path, monkeypatch) -> None:
    model, dataset = data(40)
    audit = EvaluationConfig(
        methods=("product",), attacks=("pgd:steps=2,restarts=1",), eps=(0.5,), one_budget=True,
        test_certificates=False,
    )  # fmt: skip
    plan = choose_plan(model, audit, seconds=60.0, methods=False, attacks=False)
    costs = plan.costs | {"product": minutes_plan.Costs(seconds=1.0)}  # groups of three
    plan, calls = replace(plan, costs=costs), []
    record = minutes.record_measure

    def stopping(job, batch, before, measure, kept):
        calls.append(measure)
        if calls.count(("certificate", "product")) == 4:
            raise KeyboardInterrupt
        return record(job, batch, before, measure, kept)

    monkeypatch.setattr(minutes, "record_measure", stopping)
    place = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        evaluate_within(
            model, dataset, plan, place, seconds=60.0, begun_at=time.monotonic(), progress=False
        )
    monkeypatch.undo()
    manifest = read_manifest(place)
    assert manifest["prefixes"] == {"product": 9, audit.attacks[0]: 0}
    assert not manifest["complete"] and summarize(load_run(place)).certified_n == 9
    evaluate_within(
        model, dataset, plan, place, seconds=60.0, begun_at=time.monotonic(), progress=False,
        resume=True,
    )  # fmt: skip
    evaluate(model, dataset, audit, tmp_path / "plain", progress=False)
    found, wanted = (summarize(load_run(tmp_path / name)) for name in ("run", "plain"))
    assert read_manifest(place)["complete"] and found.certified_n == 40
    assert found.certified_accuracy == wanted.certified_accuracy
    assert found.attacked_accuracy == wanted.attacked_accuracy


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


def test_calls_are_linear_between_one_image_and_a_full_one() -> None:
    calls = CallTimes(5, (1.0, 10.0), (3.0, 50.0))
    assert calls.seconds((1.0, 0.0), 1) == 1.0
    assert calls.seconds((2.0, 0.0), 3) == pytest.approx(4.0)
    assert calls.seconds((1.0, 1.0), 5) == 53.0
    assert calls.seconds((1.0, 0.0), 11) == 7.0
    assert calls.per_image == (0.6, 10.0)


class Simulated:
    """Images that withstand an attack or not, and the time that has gone by."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = self.dataset = images
        self.now, self.ended, self.counted = 0.0, 0, {"pgd": 0}

    def done(self, _: object) -> int:
        return self.ended

    def group(self, _: object, rows: np.ndarray) -> None:
        self.now += float(np.where(self.images[rows], 1.0, 0.05).sum())
        self.ended = int(rows[-1]) + 1


class Until:
    """A clock on which groups of one image count until a time that is stated."""

    def __init__(self, end: float) -> None:
        self.until = lambda *_: end
        self.group = lambda _: 1
        self.has_room = lambda *_: True
        self.note = lambda *_: None


@pytest.mark.parametrize("few", [3, 12])
def test_what_ends_in_time_is_counted_without_bias(few: int, monkeypatch) -> None:
    """Robust images take 1, others .05; there is time for some robust ones."""
    draws, robust = np.random.default_rng(0), 0.4
    counted, also_late = [], []
    for _ in range(8_000):
        work = Simulated(draws.uniform(size=25 * few) < robust)
        monkeypatch.setattr("robustcl.evaluation.minutes.time.monotonic", lambda w=work: w.now)
        _through(work, ("attack", "pgd"), Until(float(few)), {}, lambda _: None)  # pyright: ignore
        counted.append(work.images[: work.counted["pgd"]].mean())
        also_late.append(work.images[: work.ended].mean())
    error = 4 * np.std(counted) / np.sqrt(len(counted))
    assert abs(np.mean(counted) - robust) < error
    assert np.mean(also_late) - robust > 2 * error  # what the run must not do


def test_a_group_that_ends_late_is_kept_and_not_counted(monkeypatch) -> None:
    work = Simulated(np.ones(10, dtype=bool))
    monkeypatch.setattr("robustcl.evaluation.minutes.time.monotonic", lambda: work.now)
    _through(work, ("attack", "pgd"), Until(3.5), {}, lambda _: None)  # pyright: ignore
    assert (work.ended, work.counted["pgd"]) == (4, 3)
    _through(work, ("attack", "pgd"), Until(5.5), {}, lambda _: None)  # pyright: ignore
    assert (work.ended, work.counted["pgd"]) == (6, 5)  # the fourth counts, as others follow it


def test_another_layout_changes_no_value_and_is_undone() -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3)
    model = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).double()
    images = torch.rand(2, 3, 8, 8).double()
    before, strides = model(images), first.weight.stride()
    with in_layout(model, "channels_last"):
        assert first.weight.stride() != strides
        torch.testing.assert_close(model(images), before)
        inside = model(images)
    assert first.weight.stride() == strides and torch.equal(model(images), before)
    assert torch.isfinite(inside).all()


def test_the_layout_that_is_quicker_is_chosen(monkeypatch) -> None:
    conv = nn.Conv2d(3, 8, 3)
    network = nn.Sequential(conv, nn.Flatten(), nn.Linear(288, 4))
    model = Classifier.from_scores(network, image_shape=(3, 8, 8)).eval()

    def seconds(last: float):
        def of(*_: object) -> tuple[float, float]:
            is_last = conv.weight.stride()[1] == 1
            return (last, last) if is_last else (1.0, 1.0)

        return of

    for last, wanted in ((0.5, "channels_last"), (0.99, "as_given"), (2.0, "as_given")):
        monkeypatch.setattr(call_times, "pass_times", seconds(last))
        found = measure_calls(model, "cpu", most=32)
        assert found.layout == wanted
        assert found.per_image == pytest.approx((min(last, 1.0) if last < 0.95 else 1.0,) * 2)
    assert measure_calls(model, "cpu", most=32, layout="channels_last").layout == "channels_last"


def test_nothing_is_begun_when_the_time_is_over(monkeypatch) -> None:
    calls = CallTimes(8, (0.0, 0.0), (0.0, 0.0))
    audit = EvaluationConfig(methods=("product",), attacks=("pgd",), eps=(0.5,))
    costs = {text: minutes_plan.Costs(seconds=1.0) for _, text in audit.measures}
    shares = {"product": 0.5, "certified_ball": 0.0, "pgd": 0.5}
    clock = _Clock(0.0, 100.0, MinutesPlan(audit, 40, costs, shares, calls))
    left = {"product": 40, "certified_ball": 0, "pgd": 40}
    for now, most in ((0.0, 60.0), (90.0, 96.0), (96.5, 96.5), (105.0, 105.0)):
        monkeypatch.setattr("robustcl.evaluation.minutes.time.monotonic", lambda t=now: t)
        assert now <= clock.until("product", left) <= most


class Viewing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Linear(288, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.conv(images).view(len(images), -1))


def test_a_network_whose_code_needs_its_layout_keeps_it() -> None:
    model = Classifier.from_scores(Viewing(), image_shape=(3, 8, 8)).eval()
    assert measure_calls(model, "cpu", most=32).layout == "as_given"


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
    by_size: dict[int, list[Tensor]] = {}
    for part in seen:
        by_size.setdefault(len(part), []).append(part)
    for size, parts in by_size.items():
        gray = [torch.full_like(part, 0.5) for part in parts]
        assert size in (1, 8, 32), size
        for part, plain in zip(parts, gray, strict=True):
            assert torch.equal(part, plain) or any(torch.equal(part, first) for first in parts[:1])
