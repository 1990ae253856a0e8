"""Hold the user's own model against the network that bounds are computed on."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from certify.bounds.plain_modules import CURE, check_plain
from certify.bounds.rounding import row_lengths
from certify.claim import Claim
from certify.norms import Norm
from robustcl.classifier import Classifier, Encoder
from robustcl.errors import UnsupportedError, ViolationError
from robustcl.exact_copy import exact_copy

ROUNDING = 1e-11  # of scores in float64, relative to the sizes that enter them
INSIDE = 1.0 - 1e-6  # share of a certified radius at which points are tried
POINTS = 2  # per certified ball
TOGETHER = 32  # images whose points share a batch

# (N, C, H, W) float64 to scores (N, K) and by how much the true ones may differ from them.
Lowered = Callable[[Tensor], tuple[Tensor, Tensor]]
Model = Callable[[Tensor], Tensor]  # (N, C, H, W) float64 to (N, K)


def own_model(classifier: Classifier) -> Classifier:
    """Copy the user's model in float64, as it is now, and refuse what no tracing can see.

    Args:
        classifier: The model; left as it was.

    Returns:
        The copy, in eval mode.

    Raises:
        UnsupportedError: When a subclass replaces the way from images to scores.
    """
    for owner, wanted in ((classifier, Classifier), (classifier.encoder, Encoder)):
        for name in ("__call__", "forward", "scores", "embeddings", "raw_embeddings"):
            own = getattr(type(owner), name, None)
            if own is not getattr(wanted, name, None) and not _is_ours(own):
                raise UnsupportedError(
                    f"{type(owner).__name__} has a {name}() of its own, which bounds cannot see; "
                    f"move it into the encoder's backbone. {CURE}"
                )
    check_plain(classifier)
    exact = exact_copy(classifier)
    check_plain(exact, wants_eval=True)
    return exact


def alone(exact: Model, images: Tensor) -> Tensor:
    """Evaluate a model on one image at a time.

    Args:
        exact: The user's model in float64, or a part of it.
        images: (B, C, H, W) float64.

    Returns:
        (B, K) scores, or other outputs.
    """
    return torch.cat([exact(image.clone()) for image in images.split(1)])


def check_agreement(
    exact: Model, lowered: Lowered, points: Tensor, singly: Tensor, *, what: str = "score of class"
) -> Tensor:
    """Refuse a model whose float64 scores at some points lie outside of their enclosures.

    This is a test, not a proof: what a model does at other points, by Python state or by random
    numbers from outside of torch is not seen.

    Args:
        exact: The user's model in float64.
        lowered: The enclosures.
        points: (N, C, H, W) float64; the first ones are those of `singly`.
        singly: (M, K) scores of the first M points, each alone in its batch.
        what: Names an output, for the message.

    Returns:
        (N, K) the model's scores in one batch.

    Raises:
        UnsupportedError: With the point, the class and the difference.
    """
    middle, allowed = lowered(points)
    together = exact(points.clone())
    for how, scores in (("alone", singly), (f"in a batch of {len(points)}", together)):
        count = len(scores)
        if scores.shape[1:] != middle.shape[1:]:
            raise UnsupportedError(
                f"the model gives {tuple(scores.shape[1:])} numbers per image, its layers "
                f"{tuple(middle.shape[1:])}. {CURE}"
            )
        excess = (scores - middle[:count]).abs() - allowed[:count]
        excess = excess.masked_fill(~torch.isfinite(middle[:count]), -torch.inf)
        if bool((excess > 0).any()) or bool(excess.isnan().any()):
            at = int(excess.nan_to_num(nan=torch.inf).argmax())
            point, k = divmod(at, scores.shape[1])
            raise UnsupportedError(
                f"the model is not the network that its layers say: evaluated {how}, its {what} "
                f"{k} at point {point} is {float(scores[point, k]):.9g}, the network's "
                f"{float(middle[point, k]):.9g} (allowed difference "
                f"{float(allowed[point, k]):.2g}). {CURE}"
            )
    return together


def check_claim(
    exact: Model, lowered: Lowered, images: Tensor, singly: Tensor, claim: Claim, *, norm: Norm
) -> None:
    """Compare the model with its enclosures at the images and at points of the certified balls.

    Args:
        exact: The user's model in float64.
        lowered: The enclosures.
        images: (B, C, H, W) float64.
        singly: (B, K) from `alone`.
        claim: What was claimed of them.
        norm: Of the balls.

    Raises:
        ViolationError: When a point inside of a certified ball has another class.
    """
    for rows in torch.arange(len(images), device=images.device).split(TOGETHER):
        centers = images[rows]
        radius = claim.radius[rows].to(images).clamp(max=float(centers[0].numel()))
        points = [centers, *ball_points(centers, radius * INSIDE, norm)]
        scores = check_agreement(exact, lowered, torch.cat(points), singly[rows])
        predicted = claim.predicted[rows].repeat(len(points))
        certified = (radius > 0).repeat(len(points)) & (predicted >= 0)
        own = scores.gather(1, predicted.clamp_min(0)[:, None])
        _, allowed = lowered(torch.cat(points))
        lead = (scores - own - 2.0 * allowed).amax(dim=1)
        beaten = torch.nonzero(certified & (lead > 0))[:, 0]
        if len(beaten):
            row = int(beaten[0]) % len(centers)
            raise ViolationError(
                f"a point within the certified {norm} radius {float(radius[row]):.6g} of image "
                f"{int(rows[row])} has another class: the certificate is wrong, please report it"
            )


def ball_points(centers: Tensor, radius: Tensor, norm: Norm) -> Sequence[Tensor]:
    """Draw points on the surface of balls.

    Args:
        centers: (B, C, H, W) float64.
        radius: (B,).
        norm: 'l2' or 'linf'.

    Returns:
        `POINTS` times (B, C, H, W).
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(POINTS):
        # The same direction for every image, so that none depends on the others.
        way = torch.randn(centers[0].shape, generator=generator, dtype=torch.float64).to(centers)
        way = way / way.norm() if norm == "l2" else way.sign()
        found.append(centers + radius.view(-1, 1, 1, 1) * way)
    return found


def lowered_scores(
    raw: Tensor, drift: Tensor, weight: Tensor, bias: Tensor, *, on_sphere: bool
) -> tuple[Tensor, Tensor]:
    """Enclose scores from an enclosed raw embedding.

    Args:
        raw: (N, d) h.
        drift: (N,) by how much the true h may differ.
        weight: (K, d) of the head.
        bias: (K,).
        on_sphere: Whether the head sees h / |h|.

    Returns:
        (N, K) scores and the (N, K) differences that rounding allows, infinite where h may be 0.
    """
    moved, seen = drift[:, None], raw
    if on_sphere:
        size = row_lengths(raw)[:, None]
        seen = raw / size
        left = size - moved
        moved = torch.where(left > 0, 2.0 * moved / left, torch.inf)
    rows = row_lengths(weight)[None]
    scale = rows * row_lengths(seen)[:, None] + bias.abs()
    return seen @ weight.T + bias, 4.0 * rows * moved + ROUNDING * scale + 1e-290


def _is_ours(function: object) -> bool:
    return str(getattr(function, "__module__", "")).split(".")[0] in ("robustcl", "attacks")
