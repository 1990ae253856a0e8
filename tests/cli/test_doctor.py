"""The doctor: healthy here, ill where an attack is blind, lies or a certificate overstates."""

import json
from dataclasses import replace

import pytest
import torch

from robustcl import attacks, certify
from robustcl.attacks.known_answer import known_answer, linear_classifier
from robustcl.cli import doctor as room
from robustcl.cli.doctor import run_checks
from robustcl.cli.main import robustcl
from robustcl.core.choices import Norm
from robustcl.options.doctor import DoctorOptions


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_plant_is_there_and_random_points_miss_it(norm: Norm) -> None:
    problem = known_answer(norm, eps=0.1, seed=3)
    model, image = problem.classifier, problem.image
    assert int(model(image).argmax()) == 0
    assert int(model(problem.adversarial).argmax()) == 1
    delta = problem.adversarial - image
    size = delta.abs().max() if norm == "linf" else delta.norm()
    assert float(size) <= 0.1
    draws = torch.Generator().manual_seed(99)
    noise = torch.randn(500, *image.shape[1:], generator=draws)
    unit = (
        noise.sign() if norm == "linf" else noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    )
    assert bool((model(image + 0.1 * unit).argmax(1) == 0).all())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_linear_model_has_the_radius_it_states(norm: Norm) -> None:
    model, image = linear_classifier(norm, radius=0.05)
    layer = model.encoder.backbone[1]  # pyright: ignore[reportIndexIssue]
    order = 2 if norm == "l2" else 1
    gaps = model(image)[0, 0] - model(image)[0, 1:]
    slopes = torch.linalg.vector_norm(layer.weight[1:] - layer.weight[0], order, dim=1)
    torch.testing.assert_close(gaps / slopes, torch.full((4,), 0.05), rtol=1e-4, atol=0)


def test_a_healthy_installation_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert robustcl(["doctor", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["failed"] == 0
    assert len(found["checks"]) >= 10
    assert found["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert "device: CPU" in captured.err


def blind(objective, images, threat, *, seeds):
    return attacks.Candidates(images, torch.zeros(len(images), dtype=torch.int64))


def test_a_blind_attack_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = replace(attacks.ATTACKS["pgd"], function=blind)
    monkeypatch.setitem(attacks.ATTACKS, "pgd", healthy)
    monkeypatch.setitem(attacks.ATTACKS, "autoattack", healthy)
    monkeypatch.setattr(room, "PLANTS", 1)
    assert robustcl(["doctor"]) == 4
    ill = {check.name for check in run_checks(DoctorOptions()) if check.outcome == "failed"}
    assert ill == {
        f"{test}, {name}, {norm}"
        for test in ("planted adversarials", "linear oracle")
        for name in ("pgd", "autoattack")
        for norm in ("l2", "linf")
    }


def test_a_certificate_that_overstates_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = certify.product

    def overstated(*given, **options):
        claim = honest(*given, **options)
        return replace(claim, radius=1.1 * claim.radius)

    monkeypatch.setattr(certify, "product", overstated)
    outcome, detail = room._certificate("l2", DoctorOptions())
    assert not outcome
    assert "0.33" in detail


def test_an_exception_is_a_failure_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_, **__):
        raise RuntimeError("planned")

    monkeypatch.setattr(attacks, "run_attack", broken)
    checks = list(run_checks(DoctorOptions()))
    assert len([check for check in checks if "planned" in check.detail]) >= 8
    assert {check.outcome for check in checks if "certificate" in check.name} == {"ok"}
