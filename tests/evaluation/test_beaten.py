"""A certificate that claims too much is caught, saved and replayed; an honest one is not."""

# pandas annotates comparisons as unions that no assertion narrows.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

import importlib
import inspect
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustcl.attacks.exact_margin import exact_margin
from robustcl.certify import METHODS
from robustcl.cli import main as cli
from robustcl.core.choices import CERTIFIED_NORMS, CertifiedNorm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.core.hashes import network_hash
from robustcl.core.modules import exact_copy
from robustcl.core.objectives import misclassify
from robustcl.data import Dataset, load_data
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.evaluation.reproducer import Reproducer, Violation, load_reproducer, replay
from robustcl.models.architectures import embedding_size
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import small_convnet
from robustcl.models.heads import LinearHead
from robustcl.records.images import ball_attacks
from robustcl.records.kinds import CERTIFIED_BALL
from robustcl.records.reading import load_run
from robustcl.records.summary import summarize
from tests.affine import exact_distance

ARCHITECTURE = {"channels": 1, "image_size": 8, "width": 4, "embedding_size": 5}
COUNT = 10


def inflate(monkeypatch: pytest.MonkeyPatch, name: str, factor: float) -> None:
    """Have a method of the table of claims claim too much."""
    honest = METHODS[name]

    def boastful(*arguments, **options):
        claim = honest.function(*arguments, **options)
        return replace(claim, radius=factor * claim.radius)

    boastful.__signature__ = inspect.signature(honest.function)  # pyright: ignore[reportFunctionMemberAccess]
    monkeypatch.setitem(METHODS, name, replace(honest, function=boastful))


def affine() -> tuple[Classifier, Dataset, torch.Tensor]:
    """Scores of which the certificate is exact; gray images, so that the box is far away."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    model = Classifier.from_scores(network, image_shape=(1, 4, 4), std=(0.5,))
    generator = torch.Generator().manual_seed(1)
    images = 0.4 + 0.2 * torch.rand(COUNT, 1, 4, 4, generator=generator)
    labels = model(images).argmax(1).numpy()
    return model, Dataset("affine", images.permute(0, 2, 3, 1).numpy(), labels), images


@pytest.mark.parametrize("norm", CERTIFIED_NORMS)
@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_the_surface_catches_what_a_grid_of_small_budgets_cannot(
    norm: CertifiedNorm, factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, dataset, images = affine()
    inflate(monkeypatch, "product", factor)
    tiny = 0.5 * float(exact_distance(model, images, norm).min())
    audit = EvaluationConfig(methods=("product",), eps=(tiny,), norm=norm, batch_size=4)
    evaluate(model, dataset, audit, tmp_path, progress=False)
    run = load_run(tmp_path)
    plain = run.attacks[run.attacks["method"] == "pgd"]
    balls = ball_attacks(run).set_index("index")
    assert not np.isfinite(plain["radius"]).any()
    assert len(balls) == COUNT
    assert (balls["gradients"] > 0).all() and (balls["forwards"] >= balls["gradients"]).all()
    summary, files = summarize(run), sorted((tmp_path / "violations").glob("*.safetensors"))
    assert summary.certified_balls is not None
    assert summary.certified_balls["n"] == COUNT
    assert list(summary.by_attack) == ["pgd"]
    assert summary.largest_eps == tiny
    if factor == 1.0:
        assert np.isinf(balls["radius"]).all()
        assert summary.violations == [] and files == []
        return
    assert (balls["radius"] < balls["ball"]).all()
    exact = exact_distance(model, images, norm).numpy()
    assert (balls["radius"].to_numpy() > exact * (1 - 1e-6)).all()
    assert [one["index"] for one in summary.violations] == list(range(COUNT))
    assert {one["attack"] for one in summary.violations} == {CERTIFIED_BALL}
    assert len(files) == COUNT
    for place in files:
        found = load_reproducer(place)
        index = found.violation.index
        assert torch.equal(found.image, images[index])
        outcome = replay(found, model)
        assert outcome.confirmed and outcome.margin > 0
        assert outcome.norm == pytest.approx(float(balls["radius"][index]), rel=1e-6)
        assert outcome.rival == found.violation.rival != outcome.predicted


def test_who_does_not_want_the_test_is_spared(tmp_path: Path) -> None:
    model, dataset, _ = affine()
    audit = EvaluationConfig(
        methods=("product",), attacks=(), test_certificates=False, batch_size=4
    )
    evaluate(model, dataset, audit, tmp_path / "a", progress=False)
    assert load_run(tmp_path / "a").attacks.empty
    only = EvaluationConfig(methods=("first_order",), attacks=(), batch_size=4)
    evaluate(model, dataset, only, tmp_path / "b", progress=False)
    assert load_run(tmp_path / "b").attacks.empty


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("violations")
    for seed in (0, 1):
        torch.manual_seed(seed)
        encoder = Encoder(small_convnet(**ARCHITECTURE), image_shape=(1, 8, 8))
        model = Classifier(encoder, LinearHead(torch.randn(3, 5), torch.zeros(3))).eval()
        size = embedding_size(encoder.backbone, (1, 8, 8))
        description = Description("small_convnet", ARCHITECTURE, (1, 8, 8), embedding_size=size)
        save_checkpoint(folder / f"{seed}.safetensors", model, description)
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, size=(6, 8, 8, 1), dtype=np.uint8)
    np.savez(folder / "data.npz", images=images, labels=draws.integers(0, 3, 6))
    return folder


def run_command(place: Path, out: Path, *more: str) -> int:
    start = ["run", str(place / "0.safetensors"), "--data", f"npz:{place / 'data.npz'}", "--quiet"]
    methods = ["--methods", "sound", "--attack", "fmn:steps=40", "--eps", "4", "--out", str(out)]
    return cli.certify([*start, *methods, *more])


def test_from_an_inflated_certificate_to_its_replay(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    inflate(monkeypatch, "sound", 9.0)
    assert run_command(place, tmp_path / "run", "--json") == 1
    captured = capsys.readouterr()
    beaten = json.loads(captured.out)["violations"]
    assert f"first image {beaten[0]['index']}" in captured.err
    files = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("violations/*")}
    assert len(files) == len(beaten) > 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert all(f'href="{file}"' in page for file in files)
    assert {one["attack"] for one in beaten} == {CERTIFIED_BALL, "fmn:steps=40"}
    commands = [["reproduce", str(tmp_path / "run" / file), "--checkpoint"] for file in files]
    for command in commands:
        assert cli.robustcl([*command, str(place / "0.safetensors")]) == 1
        assert "the violation is confirmed" in capsys.readouterr().out
    assert cli.robustcl([*commands[0], str(place / "1.safetensors")]) == 2
    assert "give the checkpoint of that run" in capsys.readouterr().err


def test_an_honest_run_leaves_no_reproducer(place: Path, tmp_path: Path, capsys) -> None:
    assert run_command(place, tmp_path / "run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["violations"] == [] and found["certified_balls"]["found"] == 0
    assert found["certified_balls"]["n"] > 0
    assert not (tmp_path / "run" / "violations").exists()


def test_what_is_no_violation_is_not_confirmed(place: Path, tmp_path: Path, monkeypatch) -> None:
    inflate(monkeypatch, "sound", 9.0)
    run_command(place, tmp_path / "run")
    file = next((tmp_path / "run" / "violations").iterdir())
    found = load_reproducer(file)
    model = load_checkpoint(place / "0.safetensors").classifier
    assert model is not None
    assert replay(found, model).confirmed
    smaller = replace(found.violation, certified=0.99 * found.violation.attacked)
    assert not replay(replace(found, violation=smaller), model).confirmed
    assert not replay(replace(found, perturbation=0.0 * found.perturbation), model).confirmed


def test_other_files_are_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no such thing")
    for file in (place / "0.safetensors", tmp_path / "x.safetensors", tmp_path / "none"):
        with pytest.raises(InputError, match="violations"):
            load_reproducer(file)


class _Shifted(nn.Module):
    # In real arithmetic the plane behind it; in float64 a pixel is a multiple of 2^-12.
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network((pixels + 2.0**40) - 2.0**40)


def test_what_float64_itself_rounds_over_the_edge_is_not_confirmed() -> None:
    plain, _, images = affine()
    torch.manual_seed(0)
    network = _Shifted(nn.Sequential(nn.Flatten(), nn.Linear(16, 5)))
    model = Classifier.from_scores(network, image_shape=(1, 4, 4), std=(0.5,))
    exact, shifted = exact_copy(plain), exact_copy(model)
    outcomes = []
    for row in range(COUNT):
        image = images[row : row + 1].double()
        left = exact(image).argmax(dim=1)
        real, rounded = misclassify(exact, left).margin, misclassify(shifted, left).margin
        points = image.clone().requires_grad_()
        slope = torch.autograd.grad(real(points).sum(), points)[0]
        low, high = 0.0, 100.0
        for _ in range(60):
            middle = (low + high) / 2.0
            low, high = (low, middle) if real(image + middle * slope) > 0 else (middle, high)
        for share in (*torch.linspace(0.999, 1.0, 10).tolist(), 20.0):
            point = image + share * low * slope
            claim = Violation(
                index=0, predicted=int(left), rival=0, norm="l2", certified=99.0, attack="pgd",
                certificate="sound", attacked=1.0, seed=0, example_seed=0, checkpoint="", data="",
                network=network_hash(model), data_hash="", config_hash="", device="cpu",
                versions={},
            )  # fmt: skip
            outcome = replay(Reproducer(claim, images[row], (point - image)[0]), model)
            assert outcome.confirmed == (outcome.margin > outcome.rounding)
            won = (bool(real(point) > 0), bool(rounded(point) > 0))
            outcomes.append((*won, outcome.confirmed))
    assert any(wins and not truly for truly, wins, _ in outcomes)
    assert not any(sure and not truly for truly, _, sure in outcomes)
    assert all(all(won) for won in outcomes[10::11])


@pytest.mark.parametrize("screened", [False, True])
def test_both_verdicts_are_on_record(
    screened: bool, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is confirmed where the rounding is said to be endless.
    def endless(*arguments, **options):
        margin, bound = exact_margin(*arguments, **options)
        return margin, bound + torch.inf

    # The function of that name hides its module in the package.
    monkeypatch.setattr(
        importlib.import_module("robustcl.attacks.confirmation"), "exact_margin", endless
    )
    inflate(monkeypatch, "sound", 9.0)
    loaded = load_checkpoint(place / "0.safetensors").classifier
    assert loaded is not None
    dataset = load_data(f"npz:{place / 'data.npz'}", split="test")
    attack = "autoattack" if screened else "fmn:steps=40"
    audit = EvaluationConfig(
        methods=("sound",), attacks=(attack,), eps=(4.0,), screened=screened, batch_size=6
    )
    evaluate(loaded, dataset, audit, tmp_path, progress=False)
    run = load_run(tmp_path)
    table, summary = run.attacks, summarize(run)
    assert np.isinf(table["radius"]).all()
    assert np.isfinite(table["deployed"]).any()
    assert (table["in_float64"] == np.isinf(table["deployed"])).all()
    assert summary.violations == [] and not (tmp_path / "violations").exists()
    plain = table[table["method"] == attack].set_index("index")
    right = run.clean.set_index("index")
    kept = (right["predicted"] == right["label"]) & np.isinf(plain["deployed"])
    assert summary.headline_attacked == kept.mean()
    if not screened:  # else no image is attacked that is certified
        assert summary.headline_attacked is not None
        assert summary.headline_attacked < (summary.clean_accuracy or 0.0)
    assert summary.by_attack[attack]["found"] == np.isfinite(plain["deployed"]).sum()
