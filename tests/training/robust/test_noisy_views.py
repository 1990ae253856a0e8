"""Noise on views, and consistency between noisy copies."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from robustcl.core.errors import InputError
from robustcl.training.robust import NoisyViews, noisy_views
from tests.training.robust.penalty_step import COUNT, Counted, bent, step_of


def test_the_loss_sees_noise_that_is_not_clipped() -> None:
    model, seen = bent(), []
    step = step_of(model)

    def encode(views: Tensor) -> Tensor:
        seen.append(views)
        return model(views)

    total, parts = noisy_views(NoisyViews(sigma=0.5), replace(step, encode=encode))
    assert list(parts) == ["nt_xent"] and torch.equal(total, parts["nt_xent"])
    noise = (seen[0] - step.views) / 0.5
    assert len(seen) == 1 and abs(float(noise.std()) - 1.0) < 0.15
    assert float(seen[0].min()) < -0.3 and float(seen[0].max()) > 1.3
    assert torch.allclose(step.losses(model(seen[0]))[0], total)


def test_the_cosine_of_copies_estimates_the_length_of_the_mean() -> None:
    # E cos(z, z') = |E z|^2 for independent copies: what consistency lowers is 1 - |E z|^2.
    model = bent().double()
    step = step_of(model)
    image = step.views[:1]
    copies = image + 0.4 * torch.randn(40_000, 2, 4, 4, generator=step.generator).double()
    with torch.no_grad():
        points = nn.functional.normalize(model(copies), dim=1)
        length = float(points.mean(0).square().sum())
        many = replace(step, views=image.expand(2 * COUNT, -1, -1, -1))
        found = [
            float(noisy_views(NoisyViews(sigma=0.4, consistency=1.0), many)[1]["consistency"])
            for _ in range(400)
        ]
    mean, error = torch.tensor(found).mean(), torch.tensor(found).std() / math.sqrt(400)
    assert error < 0.02 and abs(float(mean) - (1.0 - length)) < 4.0 * float(error) + 1e-3
    assert float(mean) > 0.05


def test_parts_add_up_and_both_copies_count() -> None:
    model = Counted(bent())
    step = step_of(model, loss="simclr+supcon:weight=2")
    total, parts = noisy_views(NoisyViews(sigma=0.2, consistency=3.0), step)
    assert model.calls == 2
    expected = parts["nt_xent"] + 2.0 * parts["sup_con"] + 3.0 * parts["consistency"]
    assert torch.allclose(total, expected)
    assert list(parts) == ["nt_xent", "sup_con", "consistency"]


def test_lowering_it_pulls_noisy_copies_together() -> None:
    model = bent()
    step = step_of(model)
    method = NoisyViews(sigma=0.5, consistency=1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = float(noisy_views(method, step)[1]["consistency"].detach())
    for _ in range(60):
        optimizer.zero_grad()
        noisy_views(method, step)[1]["consistency"].backward()
        optimizer.step()
    assert float(noisy_views(method, step)[1]["consistency"].detach()) < 0.5 * before


def test_only_the_first_copy_enters_the_memory() -> None:
    step, remembered = step_of(bent()), []

    def losses(embeddings: Tensor, terms=(), remembers: bool = False):
        remembered.append(remembers)
        return step.losses(embeddings, terms, remembers)

    noisy_views(NoisyViews(consistency=1.0), replace(step, losses=losses))
    assert remembered == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.0}, "sigma 0.0 of noise"),
        ({"sigma": -0.1}, "sigma -0.1"),
        ({"sigma": math.inf}, "sigma inf"),
        ({"sigma": math.nan}, "sigma nan"),
        ({"consistency": -1.0}, "consistency -1.0"),
        ({"consistency": math.nan}, "consistency nan"),
    ],
)
def test_refuses(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        NoisyViews(**change)
