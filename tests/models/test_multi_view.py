"""Multi-view inference: aggregates by hand, one batch shape, gradients, refusals."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from robustcl.core.batching import count_forward_passes
from robustcl.core.choices import AGGREGATES
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.data.views import COLOR_VIEWS, TrainingView
from robustcl.models.heads import KNNHead, LinearHead, PrototypeHead
from robustcl.models.inference_views import LinearView, draw_views
from robustcl.models.multi_view import MultiView, aggregated

SHAPE = (3, 8, 8)


def classifier(head: str = "linear") -> Classifier:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6))
    heads = {
        "linear": lambda: LinearHead(torch.randn(5, 6), torch.randn(5)),
        "prototype": lambda: PrototypeHead(torch.randn(5, 6)),
        "knn": lambda: KNNHead(
            nn.functional.normalize(torch.randn(30, 6), dim=1),
            torch.arange(30) % 5, k=7, num_classes=5, temperature=0.1,
        ),
    }  # fmt: skip
    return Classifier(Encoder(layers, image_shape=SHAPE), heads[head]()).eval()


def images(count: int = 4) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def views(count: int = 5, text: str = "crop") -> list[nn.Module]:
    return draw_views(text, count, image_shape=SHAPE, training=COLOR_VIEWS)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("head", ["linear", "prototype", "knn"])
def test_aggregates_by_hand(aggregate, head: str) -> None:
    single, points, chosen = classifier(head), images(), views()
    model = MultiView(single, chosen, aggregate, temperature=0.3)
    with torch.no_grad():
        found = model(points)
        rows = [single(view(points)) for view in chosen]
        for row in range(len(points)):
            scores = [part[row] for part in rows]
            if aggregate == "embedding":
                raw = torch.stack([
                    single.raw_embeddings(view(points))[row] for view in chosen
                ]).mean(0)
                expected = single.head((raw / raw.norm())[None])[0]
            elif aggregate == "score":
                expected = sum(scores) / 5
            elif aggregate == "max":
                expected = torch.tensor([max(float(s[k]) for s in scores) for k in range(5)])
            elif aggregate == "vote":
                counts = [sum(int(s.argmax()) == k for s in scores) for k in range(5)]
                ties = torch.softmax(torch.stack(scores).mean(0) / 0.3, 0)
                expected = torch.tensor(counts) / 5 + ties / 10
            else:
                weights = [float(torch.softmax(s / 0.3, 0).max()) for s in scores]
                expected = sum(w * s for w, s in zip(weights, scores, strict=True)) / sum(weights)
            torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


def test_votes_decide_and_ties_go_to_the_mean_score() -> None:
    scores = torch.tensor([[[3.0, 2.9, 0.0]], [[3.0, 2.9, 0.0]], [[-9.0, 2.9, 0.0]]])
    assert int(aggregated(scores, "vote").argmax()) == 0  # two of three, though the mean differs
    assert int(aggregated(scores, "score").argmax()) == 1
    assert int(aggregated(scores[1:], "vote").argmax()) == 1


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_one_plain_view_is_the_classifier(aggregate) -> None:
    single, points = classifier(), images()
    model = MultiView(single, [LinearView()], aggregate)
    with torch.no_grad():
        assert torch.equal(model(points).argmax(1), single(points).argmax(1))
        if aggregate != "vote":
            torch.testing.assert_close(model(points), single(points))
        torch.testing.assert_close(model.embeddings(points), single.embeddings(points))


@pytest.mark.parametrize("head", ["linear", "prototype"])
@pytest.mark.parametrize("aggregate", ["embedding", "score"])
def test_the_affine_head_reads_the_embeddings(aggregate, head: str) -> None:
    model, points = MultiView(classifier(head), views(), aggregate), images()
    assert model.affine_head is not None
    weight, bias = model.affine_head
    with torch.no_grad():
        torch.testing.assert_close(model(points), model.embeddings(points) @ weight.T + bias)
    assert MultiView(classifier(head), views(), "max").affine_head is None


@pytest.mark.parametrize("text", ["shift", "crop", "noise", "training"])
def test_alone_in_another_order_and_again(text: str) -> None:
    model, points = MultiView(classifier(), views(6, text)), images(6)
    with torch.no_grad():
        found = model(points)
        assert torch.equal(found, model(points))
        order = torch.tensor([3, 1, 5, 0, 2, 4])
        torch.testing.assert_close(model(points[order]), found[order], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(model(points[2:3]), found[2:3], atol=1e-5, rtol=1e-5)
        double = MultiView(classifier().double(), views(6, text)).double()
        torch.testing.assert_close(double(points.double()).float(), found, atol=1e-4, rtol=1e-4)


def test_k_views_are_k_passes_of_the_same_batch_shape() -> None:
    model = MultiView(classifier(), views(7))
    with count_forward_passes(model.encoder) as seen, torch.no_grad():
        model(images(3))
    assert seen == [3] * 7
    assert model.evaluations == 7


@pytest.mark.parametrize("aggregate", ["embedding", "score", "max", "confidence", "vote"])
@pytest.mark.parametrize("text", ["crop", "training"])
def test_gradients_are_those_of_finite_differences(aggregate, text: str) -> None:
    model = MultiView(classifier().double(), views(4, text), aggregate).double()
    points = (0.2 + 0.6 * images(2)).double().requires_grad_()
    (gradient,) = torch.autograd.grad(model(points)[:, 1].sum(), points)
    direction = torch.randn(points.shape, generator=torch.Generator().manual_seed(2)).double()
    step = 1e-7
    with torch.no_grad():
        ends = [model(points + sign * step * direction)[:, 1].sum() for sign in (1, -1)]
    slope = float((ends[0] - ends[1]) / (2 * step))
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-3, abs=1e-5)
    assert float(gradient.abs().max()) > 0


def test_recomputing_changes_no_gradient() -> None:
    gradients = []
    for recompute in (False, True):
        model = MultiView(classifier(), views(), recompute=recompute)
        points = images().requires_grad_()
        with count_forward_passes(model.encoder) as seen:
            gradients.append(torch.autograd.grad(model(points)[:, 0].sum(), points)[0])
        assert len(seen) == (10 if recompute else 5)
    assert torch.equal(*gradients)


def test_training_views_are_drawn_once_for_all_images() -> None:
    view, points = TrainingView(COLOR_VIEWS, seed=5), images()
    assert torch.equal(view(points), view(points))
    same = points[:1].expand(4, -1, -1, -1)
    assert all(torch.equal(first, second) for first, second in pairwise(view(same)))
    assert not torch.equal(TrainingView(COLOR_VIEWS, seed=6)(points), view(points))


def test_refuses() -> None:
    single = classifier()
    with pytest.raises(InputError, match="no views"):
        MultiView(single, [])
    with pytest.raises(InputError, match=r"view 1 turns images \(3, 8, 8\) into \(3, 4, 4\)"):
        MultiView(single, [LinearView(), lambda points: points[:, :, ::2, ::2]])
    with pytest.raises(InputError, match="number of the images"):
        MultiView(single, [lambda points: points[:1]])
    with pytest.raises(InputError, match="unknown aggregate"):
        MultiView(single, [LinearView()], "median")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="already"):
        MultiView(MultiView(single, [LinearView()]), [LinearView()])
    with pytest.raises(InputError, match="temperature"):
        MultiView(single, [LinearView()], temperature=0.0)
