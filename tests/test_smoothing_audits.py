"""The audits of smoothed models find what is there, and nothing else."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.judge_smoothed import judge
from benchmarks.smoothed_attacks import ATTACKS, Target
from benchmarks.smoothing_audits import FORMS, audit, summarize
from robustcl.certify.smoothed_margins import Form, smoothed
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.modules import eval_mode
from robustcl.models.heads import LinearHead

SIGMA, DISTANCES = 0.25, torch.tensor([0.1, 0.2, 0.3])


def half_spaces() -> tuple[Classifier, torch.Tensor]:
    # The lead is an odd function of one linear function of the image: by symmetry votes, means and
    # clipped margins of the smoothed model have the same boundary as the base, so the true radius
    # is the distance to it.
    slope = torch.randn(16, generator=torch.Generator().manual_seed(0))
    slope = slope / slope.norm()
    layer = nn.Linear(16, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([slope, 0 * slope]))
        layer.bias.copy_(torch.tensor([0.0, 0.2]))
    head = LinearHead(torch.tensor([[0.5, 0.0], [-0.5, 0.0]]), torch.zeros(2))
    encoder = Encoder(nn.Sequential(nn.Flatten(), layer), image_shape=(1, 4, 4), mean=(0.5,))
    images = (0.5 + DISTANCES[:, None] * slope).view(3, 1, 4, 4)
    return Classifier(encoder, head).eval(), images


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_win_beyond_the_true_radius_and_never_within(attack: str, form: Form) -> None:
    model, images = half_spaces()
    terms = smoothed(model, form=form, sigma=SIGMA, clip=0.25)
    for factor, expected in ((0.97, {"held", "undecided"}), (1.25, {"violated"})):
        target = Target(
            model, terms, images, torch.zeros(3).long(), factor * DISTANCES, seeds=[1, 2, 3]
        )
        with eval_mode(model):
            points = ATTACKS[attack](target)
            found = judge(target, points, "test")
        lengths = (points - images).flatten(1).norm(dim=1)
        assert bool((lengths <= target.radii * (1 + 1e-6)).all())
        assert {said.verdict for said in found} <= expected


def test_claims_hold_and_inflated_ones_are_counted(tmp_path: Path) -> None:
    model, images = half_spaces()
    terms = smoothed(model, form="vote", sigma=SIGMA, clip=0.25)
    lines = []
    for factor in (1.0, 2.0):
        key = {"model": "half-space", "sigma": SIGMA, "form": "vote", "factor": factor}
        lines += [{**key, **line} for line in audit(model, images, [0, 1, 2], terms, factor)]
    assert all(line["radius"] < d for line, d in zip(lines, [*DISTANCES] * 2, strict=True))
    (tmp_path / "claims.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    honest, by_form, inflated, _ = summarize(tmp_path)
    assert {**honest, "form": "vote"} == by_form  # there is no other form
    assert honest["claims"] == inflated["claims"] == 3
    assert honest["audits"] == 3 * len(ATTACKS) and honest["violated_claims"] == 0
    # Seeds are fixed, and with them that twice each radius is clearly beyond the true one.
    assert all(2 * line["radius"] > 1.2 * d for line, d in zip(lines, DISTANCES, strict=False))
    assert inflated["violated_claims"] == 3
    assert inflated["violated_audits"] == sum(inflated["violated_by_attack"].values())
    assert honest["allowed"] == 0
