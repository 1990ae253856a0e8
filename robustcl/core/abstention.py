"""Say where a classifier gives no answer: at images whose scores are not finite.

On the sphere that is an image whose embedding h is 0 or not finite, or whose norm |h| is 0 or
infinite in the network's own type: h / |h| is no direction. Such an image is wrong, whatever its
label, and it is never left out of a denominator in silence.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustcl.core.terminal import say

ABSTAINED = -1
_SHOWN = 8  # images that a warning names


def predict(scores: Tensor) -> Tensor:
    """Return the class of the highest score.

    `argmax` takes NaN for the highest, so it would answer class 0 where all scores are NaN.

    Args:
        scores: (..., K).

    Returns:
        (...) int64 classes; -1 where a score is not finite.
    """
    return scores.argmax(dim=-1).masked_fill(~answered(scores), ABSTAINED)


def answered(scores: Tensor) -> Tensor:
    """Tell where all scores are finite.

    Args:
        scores: (..., K).

    Returns:
        (...) truth values.
    """
    return torch.isfinite(scores).all(dim=-1)


def directed(raw: Tensor) -> Tensor:
    """Tell which raw embeddings have a direction.

    Args:
        raw: (B, d) raw embeddings h.

    Returns:
        (B,) truth values, of h / |h| being finite.
    """
    return answered(on_sphere(raw))


def on_sphere(raw: Tensor) -> Tensor:
    """Divide embeddings by their norms, without an epsilon.

    Args:
        raw: (B, d) raw embeddings h.

    Returns:
        (B, d) h / |h|; NaN where |h| is 0 or infinite, of which a quotient of 0 or infinity would
        otherwise pass for an embedding.
    """
    norms = torch.linalg.vector_norm(raw, dim=1, keepdim=True)
    return raw / norms.masked_fill((norms == 0) | norms.isinf(), torch.nan)


def warn_abstained(images: Sequence[int], consequence: str, *, among: str = "") -> None:
    """Name the images without an answer in one line on stderr.

    Args:
        images: Their places in the data set; without any, nothing is written.
        consequence: What becomes of them, as in 'they count as wrong'.
        among: In what they are numbered, where that is not the data set.
    """
    if not images:
        return
    named = ", ".join(str(index) for index in images[:_SHOWN])
    named += ", …" if len(images) > _SHOWN else ""
    if len(images) == 1:
        what = f"image {named}{f' of {among}' if among else ''} has an embedding that is"
    else:
        which = f"of {among}" if among else "images"
        what = f"{len(images)} {which} ({named}) have embeddings that are"
    reason = "0, not finite or too large to normalize"
    say(f"warning: {what} {reason}; {consequence}")
