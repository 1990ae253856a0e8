"""Scores that are not finite are no answer, wherever a class is read off them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robustcl.calibration import measure_calibration
from robustcl.certify import clever, first_order, jacobian_norm
from robustcl.core.abstention import directed, on_sphere, predict, warn_abstained
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.core.objectives import misclassify
from robustcl.data import Dataset
from robustcl.evaluation.clean_records import calibration_of, shares_of, temperature_of
from robustcl.models.heads import LinearHead, PrototypeHead, knn, linear, prototype
from robustcl.models.heads.fitting import fit_head
from robustcl.studies.cell_kinds.calibration_cell import measured
from robustcl.studies.multiview import baselines
from robustcl.training.measuring import _knn_accuracy

NAN, INF = torch.nan, torch.inf


def test_argmax_of_nan_is_no_class() -> None:
    scores = torch.tensor([[NAN, NAN], [0.0, 1.0], [NAN, 1.0], [1.0, INF], [-INF, 1.0]])
    assert predict(scores).tolist() == [-1, 1, -1, -1, -1]
    assert predict(scores[:, None]).tolist() == [[-1], [1], [-1], [-1], [-1]]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_only_a_norm_above_0_and_below_infinity_gives_a_direction(kind: torch.dtype) -> None:
    most, least = torch.finfo(kind).max, torch.finfo(kind).smallest_normal
    raw = torch.tensor([[3.0, 4.0], [0.0, 0.0], [NAN, 1.0], [INF, 1.0]], dtype=kind)
    raw = torch.cat([raw, torch.tensor([[most, most], [least, 0.0]], dtype=kind)])
    assert directed(raw).tolist() == [True, False, False, False, False, False]
    assert on_sphere(raw)[0].tolist() == pytest.approx([0.6, 0.8])
    assert bool(on_sphere(raw)[1:].isnan().any(dim=1).all())  # and no infinity, which could win
    assert bool(on_sphere(raw)[[1, 4, 5]].isnan().all())


def test_rows_with_a_direction_are_divided_by_their_norm_to_the_last_bit() -> None:
    raw = torch.randn(1000, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(on_sphere(raw), raw / torch.linalg.vector_norm(raw, dim=1, keepdim=True))


def test_a_norm_too_large_is_no_answer_and_no_win_of_an_attack() -> None:
    # h = 1e38 x: in float32 |h| is infinite, and h / |h| would be 0, with class 0 for an answer.
    layer = nn.Linear(4, 4, bias=False)
    layer.weight.data = 1e38 * torch.eye(4)
    encoder = Encoder(nn.Sequential(nn.Flatten(), layer), image_shape=(1, 2, 2))
    model = Classifier(encoder, LinearHead(torch.eye(4), torch.tensor([0.0, 5.0, 0.0, 0.0])))
    points = torch.ones(2, 1, 2, 2)
    assert predict(model(points)).tolist() == [-1, -1]
    assert not bool((misclassify(model, torch.tensor([0, 1])).margin(points) > 0).any())
    with pytest.raises(InputError, match="image 1 has the class -1"):
        misclassify(model, torch.tensor([0, -1]))


def test_heads_refuse_embeddings_without_a_direction() -> None:
    points, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    for fit in (prototype, linear, knn):
        for wrong, match in ((0.0, "image 2 is 0"), (NAN, "image 2 is not finite")):
            spoiled = points.clone()
            spoiled[2] = wrong
            with pytest.raises(InputError, match=match):
                fit(spoiled, labels % 2, num_classes=2)
        with pytest.raises(InputError, match="whole numbers"):
            fit(points, (labels % 2).double(), num_classes=2)


def black_and_others(count: int = 12) -> tuple[Encoder, Dataset]:
    layer = nn.Linear(4, 3, bias=False)
    nn.init.uniform_(layer.weight, 0.1, 1.0, generator=torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).integers(1, 256, (count, 2, 2, 1), dtype=np.uint8)
    images[3] = 0
    data = Dataset("made", images, np.arange(count) % 2)
    return Encoder(nn.Sequential(nn.Flatten(), layer, nn.ReLU()), image_shape=(1, 2, 2)), data


@pytest.mark.parametrize("kind", ["prototype", "linear", "lipschitz_linear", "knn"])
def test_a_head_is_that_of_the_images_with_a_direction(kind: str, capsys) -> None:
    encoder, data = black_and_others()
    found = fit_head(encoder, data, kind=kind)
    assert capsys.readouterr().err.startswith("warning: image 3 of the 12 that the head is fitted")
    rest = fit_head(encoder, data.select(np.delete(np.arange(12), 3)), kind=kind)
    assert capsys.readouterr().err == ""
    for name, value in found.head.state_dict().items():
        assert torch.equal(value, rest.head.state_dict()[name])
    scores = found(data.batch(range(12)).images)
    assert torch.nonzero(predict(scores) < 0)[:, 0].tolist() == [3]


def test_an_encoder_that_is_dead_on_all_images_is_refused() -> None:
    encoder, data = black_and_others()
    with pytest.raises(InputError, match="all 1 images of 'made' are 0"):
        fit_head(encoder, data.select(np.array([3])))


def test_calibration_leaves_out_what_has_no_scores_and_counts_it_as_wrong() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(60, 3, generator=generator)
    labels = torch.randint(3, (60,), generator=generator)
    labels[:4], spoiled = 0, scores.clone()
    spoiled[:4] = NAN
    temperature = temperature_of(spoiled, labels)
    assert temperature == temperature_of(scores[4:], labels[4:])
    found = calibration_of(spoiled, labels, temperature)
    wanted = measure_calibration(*shares_of(scores[4:], labels[4:], temperature))
    assert found.pop("abstained") == 4
    assert found.pop("accuracy") == pytest.approx(wanted.pop("accuracy") * 56 / 60)
    assert found == wanted
    row, other = measured(spoiled, labels, 1.0), measured(scores[4:], labels[4:], 1.0)
    assert row["abstained"] == 4 and row["n"] == 60
    assert row["accuracy"] == pytest.approx(other["accuracy"] * 56 / 60)
    assert all(row[k] == other[k] for k in ("nll", "brier", "calibration_error"))
    assert measured(spoiled[:4], labels[:4], 1.0)["nll"] is None
    with pytest.raises(InputError, match="abstains on all 4 images"):
        temperature_of(spoiled[:4], labels[:4])


def test_a_warning_is_one_line_that_names_images(capsys) -> None:
    warn_abstained([], "nothing")
    assert capsys.readouterr().err == ""
    warn_abstained(list(range(20)), "they count as wrong", among="the 50 test images")
    line = capsys.readouterr().err
    assert line.startswith("warning: 20 of the 50 test images (0, 1, 2, 3, 4, 5, 6, 7, …) have")
    assert line.endswith("; they count as wrong\n") and line.count("\n") == 1


def test_a_prototype_head_gives_no_answer_at_zero() -> None:
    encoder, data = black_and_others()
    model = Classifier(encoder, PrototypeHead(torch.eye(3)))
    assert predict(model(data.batch([3]).images)).tolist() == [-1]


def test_the_neighbors_of_training_leave_them_out_of_the_bank_and_count_them_as_wrong() -> None:
    # Two classes whose embeddings are orthogonal, and every fourth image black, of class 0.
    count = 400
    labels, images = torch.arange(count) % 2, torch.zeros(count, 1, 2, 2)
    images[labels == 0, 0, 0], images[labels == 1, 0, 1] = 1.0, 1.0
    images[::4] = 0.0
    layer = nn.Linear(4, 4, bias=False)
    layer.weight.data = torch.eye(4)
    encoder = Encoder(nn.Sequential(nn.Flatten(), layer), image_shape=(1, 2, 2))
    run: Any = SimpleNamespace(images=images, encoder=encoder, truth=labels)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    black = (order[:100] % 4 == 0).float().mean()
    with torch.no_grad():
        assert _knn_accuracy(run, order) == pytest.approx(1.0 - float(black))
        run.images = torch.zeros_like(images)
        assert _knn_accuracy(run, order) == 0.0


class Dead(nn.Module):
    # No answer for the first image, class 0 for the others.
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores = torch.tensor([[1.0, 0.0]]).repeat(len(images), 1)
        scores[0] = NAN
        return scores

    def drawn(self, seed: int) -> "Dead":
        return self


def test_ensembles_and_fresh_views_that_abstain_are_not_robust(monkeypatch) -> None:
    plan = SimpleNamespace(batch_size=4, seed=0)
    labels = torch.tensor([0, 0, 1, 0])
    held: Any = SimpleNamespace(labels=labels.numpy())
    images = torch.zeros(4, 1, 2, 2)
    study: Any = SimpleNamespace(
        plan=plan, device="cpu", ensemble=Dead(), test=held, held_out=held, tell=None
    )
    model: Any = Dead()
    assert baselines._right(study, model, images, labels).mean(dim=0).tolist() == [0, 1, 0, 1]
    monkeypatch.setattr(baselines, "all_images", lambda data: images)
    monkeypatch.setattr(baselines, "staged", lambda study, name, compute: compute())
    nobody = torch.tensor([False, False, True, False])  # what is wrong at the start counts as won
    monkeypatch.setattr(baselines, "adversarials", lambda *_: (images, nobody))
    found = baselines.ensemble_baseline(study, labels)
    assert found is not None
    assert found["robust"] == found["clean"]["accuracy"] == 0.5
    assert found["clean"]["abstained"] == 1


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("estimate", [jacobian_norm, first_order, clever])
def test_an_estimate_of_a_batch_with_such_an_image(estimate: Any, norm: str) -> None:
    # Without ReLU the Jacobian is NaN at 0, at which LAPACK gives up for the whole batch.
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(4, 3, bias=False)
    layer.weight.data = torch.randn(3, 4, generator=generator)
    encoder = Encoder(nn.Sequential(nn.Flatten(), layer), image_shape=(1, 2, 2))
    model = Classifier(encoder, PrototypeHead(torch.eye(3)))
    images = torch.rand(3, 1, 2, 2, generator=generator)
    whole = estimate(model, images, norm=norm)
    images[1] = 0.0
    found = estimate(model, images, norm=norm)
    assert (int(found.predicted[1]), float(found.radius[1]), int(found.rival[1])) == (-1, 0.0, -1)
    for row in (0, 2):
        assert found.predicted[row] == whole.predicted[row]
        assert found.radius[row] == pytest.approx(float(whole.radius[row]), rel=1e-5)
