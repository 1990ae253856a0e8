"""Retrieval: exact on the line and the circle, never beaten elsewhere."""

from typing import get_args

import pytest
import torch
from scipy.stats import norm as normal
from torch import Tensor, nn

from robustcl import attacks
from robustcl.certify import product
from robustcl.certify._center_smoothing import Noise
from robustcl.certify._retrieval import retrieval, smoothed_retrieval
from robustcl.certify.bounds import network_lipschitz_bound
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.core.objectives import outrank
from robustcl.models.heads import PrototypeHead
from tests.affine import affine_classifier
from tests.network import small_classifier, some_images

NORMS = get_args(CertifiedNorm)
SCALE = 1.7


def line_classifier() -> Classifier:
    """h = 1.7 x, one pixel, one number, no sphere."""
    stretch = nn.Linear(1, 1, bias=False)
    stretch.weight.data.fill_(SCALE)
    encoder = Encoder(nn.Sequential(nn.Flatten(), stretch), image_shape=(1, 1, 1)).double()
    return Classifier(encoder, PrototypeHead(torch.ones(2, 1)), normalizes=False).double()


def circle_classifier() -> Classifier:
    """f = x / |x| turned: h moves exactly as x does, times 1.7."""
    turn = nn.Linear(2, 2, bias=False)
    turn.weight.data = SCALE * torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    encoder = Encoder(nn.Sequential(nn.Flatten(), turn), image_shape=(1, 1, 2)).double()
    return Classifier(encoder, PrototypeHead(torch.eye(2))).double()


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_on_the_line_the_radius_is_exact(k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(8, 1, generator=generator, dtype=torch.float64) * SCALE
    images = torch.rand(16, 1, 1, 1, generator=generator, dtype=torch.float64)
    items = torch.arange(16) % 8
    items[8:] = int(places.argmin())
    claim = retrieval(line_classifier(), images, places, items=items, k=k)
    moves = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    for row, image in enumerate(images.flatten().tolist()):
        gaps = (SCALE * (image + moves)[:, None] - places[:, 0]).abs()
        own = gaps[:, items[row]]
        nearer = (gaps < own[:, None]).sum(dim=1)
        exact = min(moves[nearer >= k].abs().tolist(), default=torch.inf)
        assert int(claim.rank[row]) == 1 + int(nearer[len(moves) // 2])
        assert float(claim.radius[row]) <= exact
        # All other classes of the first item on the line are overtaken in one direction, so in
        # order; in general k > 1 other classes on both sides need not be reached in one place.
        assert (k > 1 and row < 8) or float(claim.radius[row]) >= exact - 2e-4
        assert (float(claim.radius[row]) > 0) == (int(claim.rank[row]) <= k)


def test_a_list_longer_than_claimed_would_be_wrong() -> None:
    places = torch.tensor([[0.1], [0.5], [0.9], [1.4]], dtype=torch.float64)
    image = torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)
    near, far = (retrieval(line_classifier(), image, places, k=k) for k in (1, 2))
    assert float(near.radius) == pytest.approx((0.3 - 0.17) / SCALE)
    assert float(far.radius) == pytest.approx((0.5 - 0.17) / SCALE)
    assert (near.rival.tolist(), far.rival.tolist()) == ([1], [2])


def distance_to_loss(model: Classifier, image: Tensor, gallery: Tensor, item: int, k: int) -> float:
    """How far x must move on the plane for k other classes to be nearer, by search over angles."""
    angles = torch.linspace(0, 2 * torch.pi, 200_001, dtype=torch.float64)
    rays = torch.stack([angles.cos(), angles.sin()], 1)
    gaps = torch.cdist(rays, gallery, compute_mode="donot_use_mm_for_euclid_dist")
    lost = rays[(gaps < gaps[:, item : item + 1]).sum(dim=1) >= k]
    raw = model.raw_embeddings(image[None])[0].detach()
    if not len(lost):
        return float(raw.norm()) / SCALE
    away = (raw.norm() ** 2 - (lost @ raw).clamp(min=0) ** 2).clamp(min=0).sqrt()
    return float(away.min()) / SCALE


@pytest.mark.parametrize("spread", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_on_the_circle_the_radius_of_the_nearest_is_exact(seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    lengths = 1 + spread * torch.rand(5, 1, generator=generator, dtype=torch.float64)
    gallery = lengths * nn.functional.normalize(directions, dim=1)
    images = torch.rand(8, 1, 1, 2, generator=generator, dtype=torch.float64) * 0.94 + 0.05
    model = circle_classifier()
    for k in (1, 2):
        claim = retrieval(model, images, gallery, k=k)
        for row, image in enumerate(images):
            exact = distance_to_loss(model, image, gallery, int(claim.items[row]), k)
            radius = float(claim.radius[row])
            assert radius <= exact + 1e-4
            # With k = 2 the two other classes need not be reached in one place.
            assert k > 1 or radius >= exact - 1e-3


def test_past_a_quarter_turn_the_sphere_ends_first() -> None:
    # A long other class opposite the item: f would have to turn by more than 90 degrees to lose.
    gallery = torch.tensor([[-0.8, 0.6], [1.52, -1.14]], dtype=torch.float64)
    model = circle_classifier()
    images = torch.tensor([[0.1, 1.0], [0.3, 0.9]], dtype=torch.float64).view(2, 1, 1, 2)
    claim = retrieval(model, images, gallery)
    size = images.flatten(1).norm(dim=1)
    assert claim.items.tolist() == [0, 0]
    for row, image in enumerate(images):
        assert distance_to_loss(model, image, gallery, 0, 1) == pytest.approx(float(size[row]))
    torch.testing.assert_close(claim.radius, size, rtol=1e-6, atol=0)
    assert bool((claim.radius <= size).all())


def unit(count: int, *, seed: int = 3, spread: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    items = nn.functional.normalize(
        torch.randn(count, 5, generator=generator, dtype=torch.float64), dim=1
    )
    return items * (1 + spread * torch.rand(count, 1, generator=generator, dtype=torch.float64))


def attacked(
    model: Classifier, images: Tensor, gallery: Tensor, items: Tensor, k: int, norm: CertifiedNorm
):
    return attacks.attacked_radius(
        "pgd",
        outrank(model, gallery, items=items, k=k),
        images,
        norm=norm,
        eps_grid=[0.02, 0.1, 0.5, 2.0],
        box=None,
        batch_size=16,
    ).radius


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("norm", NORMS)
def test_no_attack_drives_an_item_out(norm: CertifiedNorm, spread: float) -> None:
    model, images = small_classifier().double(), some_images(12).double()
    gallery = unit(9, spread=spread)
    bound = network_lipschitz_bound(model.encoder, norm=norm)
    for k, items in ((1, None), (3, torch.arange(12) % 9)):
        claim = retrieval(model, images, gallery, items=items, k=k, norm=norm, prepared=bound)
        found = attacked(model, images, gallery, claim.items, k, norm)
        assert bool((claim.radius > 0).any()) and bool(torch.isfinite(found).any())
        assert bool((claim.radius <= found).all())
        assert torch.equal(claim.rank > k, found == 0)


def far_apart() -> tuple[Classifier, Tensor, Tensor]:
    model = circle_classifier()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 1, 1, 2, generator=generator, dtype=torch.float64) * 0.94 + 0.05
    gallery = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    return model, images, gallery


def test_pgd_comes_near_on_the_circle() -> None:
    model, images, gallery = far_apart()
    claim = retrieval(model, images, gallery)
    found = attacked(model, images, gallery, claim.items, 1, "l2")
    assert bool((claim.radius <= found).all())
    reached = torch.isfinite(found)
    assert bool((found[reached] <= 1.02 * claim.radius[reached] + 1e-6).any())
    assert bool((1.1 * claim.radius > found).any())


def test_offsets_of_the_wrong_sign_are_beaten(monkeypatch: pytest.MonkeyPatch) -> None:
    module = __import__("robustcl.certify._retrieval", fromlist=["_differences"])
    right = module._differences

    def flipped(known: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        lengths, offsets = right(known, chosen)
        return lengths, -offsets

    model, images, _ = far_apart()
    generator = torch.Generator().manual_seed(2)
    gallery = nn.functional.normalize(torch.randn(6, 2, generator=generator).double(), dim=1)
    gallery *= torch.tensor([[1.0], [1.1], [1.2], [0.9], [0.8], [1.0]])
    items = retrieval(model, images, gallery).items
    monkeypatch.setattr(module, "_differences", flipped)
    claim = retrieval(model, images, gallery, items=items)
    found = attacked(model, images, gallery, items, 1, "l2")
    assert bool((claim.radius > found + 1e-6).any())


def test_a_gallery_of_prototypes_is_certified_as_the_product_does() -> None:
    model, images = small_classifier(), some_images()
    assert isinstance(model.head, PrototypeHead)
    ours = retrieval(model, images, model.head.weight)
    theirs = product(model, images)
    assert torch.equal(ours.items, theirs.predicted)
    # The product bounds the last layer pair by pair, retrieval all at once.
    assert bool((ours.radius <= theirs.radius * (1 + 1e-6)).all())
    turned = circle_classifier()
    points = torch.rand(8, 1, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        retrieval(turned, points, torch.eye(2)).radius, product(turned, points).radius
    )


def test_twins_tie_and_count_against_the_item() -> None:
    gallery = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    image = torch.tensor([0.8, 0.6], dtype=torch.float64).view(1, 1, 1, 2)
    model = circle_classifier()
    one, two = (retrieval(model, image, gallery, items=torch.tensor([0]), k=k) for k in (1, 2))
    assert (float(one.radius), int(one.rank)) == (0.0, 2)
    assert float(two.radius) > 0


def test_a_list_as_long_as_the_gallery_is_never_left() -> None:
    model, images, gallery = far_apart()
    claim = retrieval(model, images, gallery, k=6)
    assert bool(torch.isinf(claim.radius).all()) and bool((claim.rival == -1).all())
    assert bool(torch.isfinite(retrieval(model, images, gallery, k=5).radius).all())


def test_an_offset_larger_than_the_difference_settles_the_order() -> None:
    # Another class so long that no point of the sphere is nearer to it than to the item.
    gallery = torch.tensor([[0.0, 1.0], [0.0, 5.0]], dtype=torch.float64)
    model, images, _ = far_apart()
    claim = retrieval(model, images, gallery, items=torch.zeros(12, dtype=torch.int64))
    size = images.flatten(1).norm(dim=1)
    torch.testing.assert_close(claim.radius, size, rtol=1e-6, atol=0)
    assert bool((claim.radius <= size).all())
    other = retrieval(model, images, gallery, items=torch.ones(12, dtype=torch.int64))
    assert other.radius.tolist() == [0.0] * 12


def test_the_gallery_may_be_permuted_and_the_scale_of_h_changed() -> None:
    model, images, gallery = small_classifier(), some_images(), unit(9, spread=0.5)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    before = retrieval(model, images, gallery, k=2)
    after = retrieval(model, images, gallery[order], k=2)
    torch.testing.assert_close(before.radius, after.radius)
    assert torch.equal(order[after.items], before.items)
    last = model.encoder.backbone[-1]  # pyright: ignore[reportIndexIssue]
    with torch.no_grad():
        last.weight.mul_(4.0)
        last.bias.mul_(4.0)
    torch.testing.assert_close(before.radius, retrieval(model, images, gallery, k=2).radius)


class Side(nn.Module):
    """f = (+1, 0) or (-1, 0) by the sign of the first pixel less 1/2."""

    def forward(self, images: Tensor) -> Tensor:
        side = torch.where(images.flatten(1)[:, 0] > 0.5, 1.0, -1.0)
        return torch.stack([side, torch.zeros_like(side)], dim=1)


# On the axis; the midpoints between the first item and the others are where they meet, and
# g = 2 Phi((x - 1/2)/sigma) - 1 on the first axis.
AXIS = torch.tensor([[1.0, 0.0], [0.2, 0.0], [-0.4, 0.0], [-1.0, 0.0]])
MIDPOINTS = (0.6, 0.3, 0.0)


def exact_smoothed(value: float, sigma: float, k: int) -> float:
    mean = 2 * normal.cdf((value - 0.5) / sigma) - 1
    radii = [
        sigma * float(normal.ppf((1 + mean) / 2) - normal.ppf((1 + middle) / 2))
        for middle in MIDPOINTS
    ]
    return sorted(radii)[k - 1]


@pytest.mark.parametrize("k", [1, 2])
def test_smoothed_retrieval_covers_the_known_answer(k: int) -> None:
    model = Classifier(Encoder(Side(), image_shape=(1, 1, 1)), PrototypeHead(torch.eye(2)))
    repeats, sigma = 300, 0.25
    images = torch.full((repeats, 1, 1, 1), 0.9)
    noise = Noise(sigma=sigma, n=400, alpha=0.1, batch_size=400)
    exact = exact_smoothed(0.9, sigma, k)
    claim = smoothed_retrieval(
        model, images, AXIS, items=torch.zeros(repeats, dtype=torch.int64), k=k, noise=noise
    )
    wrong = float((claim.radius > exact).double().mean())
    assert wrong <= 0.1 / k + 3 * (0.1 * 0.9 / repeats) ** 0.5
    assert 0.4 * exact < float(claim.radius.median()) < exact
    assert (claim.guarantee, claim.rank.min(), claim.rank.max()) == ("probabilistic", 1, 1)
    linf = smoothed_retrieval(
        model, images[:3], AXIS, items=torch.zeros(3, dtype=torch.int64), k=k, noise=noise,
        norm="linf",
    )  # fmt: skip
    torch.testing.assert_close(linf.radius, claim.radius[:3])


class Broken(nn.Module):
    """f = (1, 0), but NaN on a fifth of the noise around 0."""

    def forward(self, images: Tensor) -> Tensor:
        bad = images.flatten(1)[:, 0] > 0.5 * 0.8416
        first = torch.where(bad, torch.nan, 1.0)
        return torch.stack([first, torch.zeros_like(first)], dim=1)


def test_samples_that_are_not_finite_count_as_the_farthest() -> None:
    model = Classifier(Encoder(Broken(), image_shape=(1, 1, 1)), PrototypeHead(torch.eye(2)))
    noise = Noise(sigma=0.5, n=50_000, alpha=0.001, batch_size=5000)
    claim = smoothed_retrieval(
        model, torch.zeros(1, 1, 1, 1), AXIS, items=torch.tensor([0]), k=2, noise=noise
    )
    exact = 0.5 * float(normal.ppf(0.8) - normal.ppf((1 + MIDPOINTS[1]) / 2))
    assert 0.9 * exact <= float(claim.radius) <= exact


class Slanted(nn.Module):
    """f = (+1, 0) or (-1, 0) by the sign of the sum of all numbers over sqrt D, less 1/2."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        side = torch.where(flat.sum(dim=1) / flat.shape[1] ** 0.5 > 0.5, 1.0, -1.0)
        return torch.stack([side, torch.zeros_like(side)], dim=1)


def test_the_linf_radius_is_that_of_the_corner() -> None:
    model = Classifier(Encoder(Slanted(), image_shape=(2, 1, 2)), PrototypeHead(torch.eye(2)))
    images, items = torch.full((20, 2, 1, 2), 1.3 / 2), torch.zeros(20, dtype=torch.int64)
    noise = Noise(sigma=0.5, n=4000, alpha=0.001, batch_size=2000)
    plain, linf = (
        smoothed_retrieval(model, images, AXIS, items=items, k=2, norm=norm, noise=noise).radius
        for norm in NORMS
    )
    assert bool((linf <= plain / 2).all())
    torch.testing.assert_close(linf, plain / 2, rtol=1e-9, atol=0)
    # The mean embedding falls fastest where all numbers fall alike.
    exact = exact_smoothed(1.3, 0.5, 2) / 2
    assert bool((linf <= exact).all()) and float(linf.median()) > 0.8 * exact


class Corners(nn.Module):
    """f = (+-1, +-1, +-1, +-1) / 2 by the signs of four pixels, each for itself."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.where(images.flatten(1) > 0, 0.5, -0.5)


# The item, four other classes that differ from it in one sign each, and one that differs in all.
CORNERS = torch.cat([torch.ones(1, 4), 1.0 - 2.0 * torch.eye(4), -torch.ones(1, 4)]) / 2.0


@pytest.mark.parametrize("k", [1, 4])
def test_each_of_k_rivals_is_bounded_at_a_kth_of_alpha(k: int) -> None:
    # The k-th smallest of all radii is the smallest once the k - 1 nearest other classes are left
    # out, and then all of alpha / k is for one.
    model = Classifier(Encoder(Corners(), image_shape=(1, 1, 4)), PrototypeHead(torch.eye(4)))
    image, item = torch.tensor([0.2, 0.25, 0.3, 0.4]).view(1, 1, 1, 4), torch.tensor([0])
    noise = Noise(sigma=0.5, n=1000, alpha=0.04, batch_size=1000)
    whole = smoothed_retrieval(model, image, CORNERS, items=item, k=k, noise=noise)
    rest = torch.cat([CORNERS[:1], CORNERS[k:]])
    strict = Noise(sigma=0.5, n=1000, alpha=0.04 / k, batch_size=1000)
    alone = smoothed_retrieval(model, image, rest, items=item, k=1, noise=strict)
    assert whole.rival.tolist() == [k] and float(whole.radius) > 0
    assert float(whole.radius) == pytest.approx(float(alone.radius), rel=1e-9)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_constant_embedding_has_the_closed_form(k: int) -> None:
    model, sigma = small_classifier(), 0.5
    last = model.encoder.backbone[-1]  # pyright: ignore[reportIndexIssue]
    nn.init.zeros_(last.weight)
    point = nn.functional.normalize(last.bias.detach().double(), dim=0)
    gallery = unit(6, spread=0.4)
    gaps = torch.cdist(point[None], gallery)[0]
    item = int(gaps.argmin())
    radii = []
    for j in range(6):
        if j != item:
            a = gallery[item] - gallery[j]
            c = (gallery[j] @ gallery[j] - gallery[item] @ gallery[item]) / 2
            mean, edge = float(a @ point / a.norm()), float(-c / a.norm())
            low = normal.ppf((1 + max(edge, -1.0)) / 2)
            radii.append(sigma * (normal.ppf((1 + mean) / 2) - low))
    exact = sorted(radii)[k - 1]
    claim = smoothed_retrieval(
        model, some_images(1), gallery, items=torch.tensor([item]), k=k,
        noise=Noise(sigma=sigma, n=20_000, alpha=0.001, batch_size=2_000),
    )  # fmt: skip
    assert exact * 0.9 <= float(claim.radius[0]) <= exact


def test_an_item_that_is_not_ahead_is_claimed_nothing() -> None:
    model = Classifier(Encoder(Side(), image_shape=(1, 1, 1)), PrototypeHead(torch.eye(2)))
    noise = Noise(sigma=0.25, n=400, alpha=0.1)
    claim = smoothed_retrieval(
        model, torch.full((2, 1, 1, 1), 0.85), AXIS, items=torch.tensor([1, 3]), noise=noise
    )
    assert claim.radius.tolist() == [0.0, 0.0] and claim.rank.tolist() == [2, 4]


def test_what_makes_no_sense_is_refused() -> None:
    model, images = small_classifier(), some_images(2)
    with pytest.raises(InputError, match="gallery"):
        retrieval(model, images, unit(4)[:, :3])
    with pytest.raises(InputError, match="finite"):
        retrieval(model, images, unit(4) * torch.nan)
    with pytest.raises(InputError, match="k 0"):
        retrieval(model, images, unit(4), k=0)
    for items in (torch.tensor([0]), torch.tensor([0, 4]), torch.tensor([-1, 0])):
        with pytest.raises(InputError, match="items"):
            retrieval(model, images, unit(4), items=items)
    with pytest.raises(InputError, match="prepared"):
        retrieval(
            model, images, unit(4), prepared=network_lipschitz_bound(model.encoder, norm="linf")
        )
    with pytest.raises(UnsupportedError, match="sphere"):
        smoothed_retrieval(
            affine_classifier(), torch.rand(1, 2, 4, 4), unit(4), items=torch.tensor([0])
        )
