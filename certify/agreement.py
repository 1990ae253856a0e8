"""Hold the user's own model against the network that bounds are computed on."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustcl.certify.bounds.plain_modules import OTHER_METHODS, check_plain
from robustcl.certify.claim import Claim
from robustcl.certify.rounding import row_lengths
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError, UnsupportedError, ViolationError
from robustcl.core.modules import exact_copy

ROUNDING = 1e-11  # of scores in float64, relative to the sizes that enter them
INSIDE = 1.0 - 1e-6  # share of a certified radius at which points are tried
_POINTS = 2  # per certified ball
TOGETHER = 32  # images whose points share a batch

# (N, C, H, W) float64 to scores (N, K) and by how much the true ones may differ from them.
Lowered = Callable[[Tensor], tuple[Tensor, Tensor]]
_Model = Callable[[Tensor], Tensor]  # (N, C, H, W) float64 to (N, K)


def own_model(classifier: Classifier) -> Classifier:
    """Copy the user's model in float64, as it is now, and refuse what no tracing can see.

    Args:
        classifier: The model; left as it was.

    Returns:
        The copy, in eval mode.
    """
    refuse_hidden(classifier)
    exact = exact_copy(classifier)
    check_plain(exact, wants_eval=True)
    return exact


def refuse_hidden(classifier: Classifier) -> None:
    """Refuse a model that is more than its encoder and its head, see `check_plain`.

    Args:
        classifier: The model.

    Raises:
        InputError: When it is no classifier.
        UnsupportedError: When a subclass replaces the way from images to scores.
    """
    if not isinstance(classifier, Classifier):
        raise InputError(
            f"{type(classifier).__name__} is no Classifier; use Classifier.from_scores(network, "
            "image_shape=...)"
        )
    for owner, wanted in ((classifier, Classifier), (classifier.encoder, Encoder)):
        for name in ("__call__", "forward", "scores", "embeddings", "raw_embeddings"):
            own = getattr(type(owner), name, None)
            if own is not getattr(wanted, name, None) and not _is_ours(own):
                raise UnsupportedError(
                    f"{type(owner).__name__} has a {name}() of its own, which bounds cannot see; "
                    f"move it into the encoder's backbone. {OTHER_METHODS}"
                )
    check_plain(classifier)


def alone(exact: _Model, images: Tensor) -> Tensor:
    """Evaluate a model on one image at a time.

    Args:
        exact: The user's model in float64, or a part of it.
        images: (B, C, H, W) float64.

    Returns:
        (B, K) scores, or other outputs.
    """
    return torch.cat([exact(image.clone()) for image in images.split(1)])


def _with_gradients(exact: _Model, points: Tensor) -> Tensor:
    # As attacks evaluate a model, which may behave otherwise without gradients.
    with torch.enable_grad():
        return exact(points.clone()).detach()


def check_agreement(
    exact: _Model, lowered: Lowered, points: Tensor, *, what: str = "score of class"
) -> None:
    """Refuse a model whose float64 scores at some points lie outside of their enclosures.

    The model is evaluated at each point alone and at all of them together. This is a test, not a
    proof: what a model does at other points, by Python state or by random numbers from outside of
    torch is not seen.

    Args:
        exact: The user's model in float64.
        lowered: The enclosures.
        points: (N, C, H, W) float64.
        what: Names an output, for the message.
    """
    enclosed = lowered(points)
    _compare("alone", alone(exact, points), enclosed, what)
    _compare(f"in a batch of {len(points)}", _with_gradients(exact, points), enclosed, what)


def _compare(how: str, scores: Tensor, enclosed: tuple[Tensor, Tensor], what: str) -> None:
    middle, allowed = enclosed
    if scores.shape != middle.shape:
        raise UnsupportedError(
            f"the model gives {tuple(scores.shape[1:])} numbers per image, its layers "
            f"{tuple(middle.shape[1:])}. {OTHER_METHODS}"
        )
    excess = (scores - middle).abs() - allowed
    # Where nothing is known, as at h = 0, nothing is claimed either.
    excess = excess.masked_fill(~torch.isfinite(middle) | torch.isinf(allowed), -torch.inf)
    if bool((excess > 0).any()) or bool(excess.isnan().any()):
        point, k = divmod(int(excess.nan_to_num(nan=torch.inf).argmax()), scores.shape[1])
        raise UnsupportedError(
            f"the model is not the network that its layers say: evaluated {how}, its {what} {k} at "
            f"point {point} is {float(scores[point, k]):.9g}, the network's "
            f"{float(middle[point, k]):.9g} (allowed difference {float(allowed[point, k]):.2g}). "
            f"{OTHER_METHODS}"
        )


def check_claim(
    exact: _Model,
    lowered: Lowered,
    images: Tensor,
    singly: Tensor,
    enclosed: tuple[Tensor, Tensor],
    claim: Claim,
) -> None:
    """Compare the model with its enclosures at the images and at points of the certified balls.

    Args:
        exact: The user's model in float64.
        lowered: The enclosures at other points.
        images: (B, C, H, W) float64.
        singly: (B, K) from `alone`.
        enclosed: Scores at the images and the differences that are allowed, (B, K) each.
        claim: What was claimed of them.

    Raises:
        ViolationError: When a point inside of a certified ball has another class.
    """
    middle, allowed = enclosed
    _compare("alone", singly, enclosed, "score of class")
    for rows in torch.arange(len(images), device=images.device).split(TOGETHER):
        balls = rows[(claim.radius[rows] > 0) & (claim.predicted[rows] >= 0)]
        radius = claim.radius[balls].to(images).clamp(max=float(images[0].numel()))
        around = ball_points(images[balls], radius * INSIDE, claim.norm)
        points, count = torch.cat([images[rows], *around]), len(rows)
        size = max(2, count)  # no more memory than the images themselves
        scores = torch.cat([_with_gradients(exact, part) for part in points.split(size)])
        how = f"in a batch of {min(size, len(points))}"
        _compare(how, scores[:count], (middle[rows], allowed[rows]), "score of class")
        if not len(balls):
            continue
        found = lowered(points[count:])
        _compare(f"{how}, within certified balls", scores[count:], found, "score of class")
        predicted = claim.predicted[balls].repeat(len(around))[:, None]
        lead = scores[count:] - scores[count:].gather(1, predicted) - 2.0 * found[1]
        beaten = torch.nonzero(lead.amax(dim=1) > 0)[:, 0]
        if len(beaten):
            row = int(balls[int(beaten[0]) % len(balls)])
            raise ViolationError(
                f"a point within the certified {claim.norm} radius {float(claim.radius[row]):.6g} "
                f"of image {row} has another class: the certificate is wrong, please report it"
            )


def ball_points(centers: Tensor, radius: Tensor, norm: str) -> Sequence[Tensor]:
    """Draw points on the surface of balls.

    Args:
        centers: (B, C, H, W) float64.
        radius: (B,).
        norm: 'l2' or 'linf'.

    Returns:
        `_POINTS` times (B, C, H, W).
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(_POINTS):
        # The same direction for every image, so that none depends on the others.
        way = torch.randn(centers.shape[1:], generator=generator, dtype=torch.float64).to(centers)
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
    return str(getattr(function, "__module__", "")).split(".")[0] == "robustcl"
