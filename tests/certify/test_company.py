"""A verdict depends on nothing but the image: not on its company, its place, or the threads."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from robustcl.certify import (
    Claim,
    certified_radius,
    crown,
    displacement,
    geodesic,
    local,
    multi_view,
    product,
    retrieval,
)
from robustcl.core.classifier import Classifier
from robustcl.models.inference_views import LinearView
from robustcl.models.multi_view import MultiView
from tests.network import small_classifier, some_images

METHODS: dict[str, Any] = {
    "product": product,
    "geodesic": geodesic,
    "local": partial(local, stairs=6),
    "local, 200 units": partial(local, stairs=3, units=200),
    "crown": crown,
    "crown, slopes": partial(crown, slope_steps=3, steps=4),
    "crown, splits": partial(crown, slope_steps=2, splits=2, steps=4),
    "sound": partial(certified_radius, slope_steps=0),
    "sound, tuned": partial(certified_radius, slope_steps=2, splits=2),
}


def same(first: Claim, second: Claim) -> bool:
    columns = ("radius", "predicted", "rival")
    equal = all(torch.equal(getattr(first, name), getattr(second, name)) for name in columns)
    return equal and first.method == second.method


def picked(claim: Claim, rows: list[int]) -> tuple[Any, ...]:
    names = claim.method if isinstance(claim.method, tuple) else (claim.method,) * len(claim.radius)
    columns = (claim.radius, claim.predicted, claim.rival)
    return (*(column[rows].tolist() for column in columns), [names[row] for row in rows])


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", METHODS)
def test_the_bits_are_the_same_in_any_company(name: str, norm: Any) -> None:
    model, images, method = small_classifier(), some_images(6), partial(METHODS[name], norm=norm)
    together = method(model, images)
    everyone = list(range(6))
    assert float(together.radius.max()) > 0
    backwards = method(model, images.flip(0))
    assert picked(backwards, everyone[::-1]) == picked(together, everyone)
    for row in (0, 3, 5):
        assert picked(method(model, images[row : row + 1]), [0]) == picked(together, [row])
    assert picked(method(model, images[:2]), [0, 1]) == picked(together, [0, 1])


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", ["product", "local", "crown, slopes", "sound, tuned"])
def test_the_bits_are_the_same_with_any_number_of_threads(
    name: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:  # several images at a time
        monkeypatch.setattr("robustcl.certify.image_by_image._LARGE", 1)
    model, images, before = small_classifier(), some_images(4), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        single = METHODS[name](model, images)
        torch.set_num_threads(3)
        assert same(METHODS[name](model, images), single)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_claims_without_labels_do_not_depend_on_company() -> None:
    model, images = small_classifier(), some_images(5)
    gallery = torch.nn.functional.normalize(torch.randn(7, 5), dim=1)
    moved, kept = displacement(model, images, eps=0.05), retrieval(model, images, gallery)
    for row in range(5):
        one = images[row : row + 1]
        assert float(displacement(model, one, eps=0.05).drift) == float(moved.drift[row])
        assert float(retrieval(model, one, gallery).radius) == float(kept.radius[row])


@pytest.mark.parametrize("aggregate", ["embedding", "score", "vote"])
def test_multi_view_does_not_depend_on_company(aggregate: Any) -> None:
    views = [LinearView(), LinearView(torch.eye(8).flip(0)), LinearView(None, torch.eye(8).flip(0))]
    model, images = MultiView(small_classifier(), views, aggregate), some_images(4)
    together = multi_view(model, images)
    for row in range(4):
        alone = multi_view(model, images[row : row + 1])
        assert picked(alone, [0]) == picked(together, [row])


def test_slopes_are_tuned_where_no_unit_is_undecided() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        network[1].bias += 50.0  # pyright: ignore[reportOperatorIssue]
    model, images = Classifier.from_scores(network, image_shape=(1, 8, 8)), some_images(3)
    for norm in ("l2", "linf"):
        tuned = certified_radius(model, images, norm=norm, slope_steps=5, splits=0)
        plain = certified_radius(model, images, norm=norm, slope_steps=0)
        assert bool((tuned.radius >= plain.radius).all()) and float(plain.radius.min()) > 0
