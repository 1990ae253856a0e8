"""Fresh views: the average over draws is a better target than one view, and others judge it."""

from pathlib import Path

import torch
from torch import nn

from robustcl.data import load_data
from robustcl.studies.multiview.baselines import JUDGES, _shares, fresh_views
from robustcl.studies.multiview.outputs import Study, adversarials
from robustcl.studies.multiview.plan import SINGLE, StudyPlan
from tests.trained import scored, trained


def study_of(folder: Path, *, draws: int) -> Study:
    plan = StudyPlan(
        views="shift:pixels=1,flip=false", counts=(4,), aggregates=("score",), eps=0.6,
        attacked=40, attack="every_view:steps=10,restarts=1", batch_size=40, draws=draws,
    )  # fmt: skip
    test = load_data("digits", split="test", limit=40)
    model = scored(trained(nn.ReLU))
    return Study(plan, model, [], test, test, folder, "cpu", lambda _: None)


def test_points_against_the_average_fool_fresh_draws_more_than_those_of_one_view(
    tmp_path: Path,
) -> None:
    study = study_of(tmp_path, draws=8)
    labels = torch.from_numpy(study.test.labels)
    points, won = adversarials(study, SINGLE, study.single)
    assert torch.equal(won, study.single(points).argmax(1) != labels)
    clean = study.single(study.test.batch(range(40)).images).argmax(1) != labels
    found = fresh_views(study, {SINGLE: study.single}, {"clean": clean, SINGLE: won}, 1.0)
    assert found is not None
    by_source = found["robust_by_source"]
    assert found["clean"] > by_source[SINGLE] > by_source[found["name"]] + 0.05
    assert found["robust"] <= by_source[found["name"]] + 0.02  # the judges are not the choosers
    assert found["transfer_gain"]["value"] > found["adaptive_gain"]["value"]
    again = fresh_views(study, {SINGLE: study.single}, {"clean": clean, SINGLE: won}, 1.0)
    assert again == found


def test_who_chooses_the_worst_point_does_not_judge_it() -> None:
    # Coins: the lowest of twenty shares is far below a half, what others say of it is not.
    coins = torch.rand(20, 2 * JUDGES, 400, generator=torch.Generator().manual_seed(0)).round()
    right = {str(number): part.double() for number, part in enumerate(coins)}
    judged = _shares(right, list(right))
    lowest = coins.mean(dim=1).min(dim=0).values
    assert float(lowest.mean()) < 0.4
    assert abs(float(judged.mean()) - 0.5) < 0.03


def test_without_draws_there_is_no_such_model(tmp_path: Path) -> None:
    assert fresh_views(study_of(tmp_path, draws=0), {}, {}, 1.0) is None
