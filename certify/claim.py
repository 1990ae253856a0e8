"""State what a certificate claims about each image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustcl.core.abstention import ABSTAINED, answered
from robustcl.core.choices import Guarantee

if TYPE_CHECKING:
    import pandas as pd

NO_RIVAL = -1


@dataclass(frozen=True, eq=False)
class Claim:
    """Claim that no perturbation below the radius changes the prediction of the subject.

    A deterministic claim is about the network in real arithmetic that the model's layers describe.
    The model itself is compared with it in float64: at the image, alone and in a batch, at points
    of the ball, and in runs at every point that an attack returns. That is a test, not a proof:
    excluded is what a model does elsewhere by Python state, or by random numbers from outside of
    torch, NumPy and Python's `random`.

    Args:
        method: The certificate's name, or one name per image where methods were combined.
        norm: Norm of the perturbation.
        guarantee: 'deterministic': proved; 'probabilistic': wrong with probability at most alpha
            per image; 'estimate': not proved at all.
        subject: Which classifier is meant: 'model', or its smoothed version.
        predicted: (B,) the subject's class; -1 where it abstained. In deterministic claims the
            model's own, evaluated in float64 on the image alone; -1 where scores are not finite.
        radius: (B,) float64, in pixel units; 0 where nothing is claimed. Perturbations of norm
            strictly below it are covered.
        rival: (B,) the other class whose boundary is nearest as far as the method can tell; -1:
            none.
    """

    method: str | tuple[str, ...]
    norm: str
    guarantee: Guarantee
    subject: str
    predicted: Tensor
    radius: Tensor
    rival: Tensor

    def frame(self) -> "pd.DataFrame":
        """Return one row per image: method, predicted class, radius, nearest other class.

        Returns:
            The table; radii in pixel units.
        """
        import pandas as pd  # slow to import

        method = self.method if isinstance(self.method, str) else list(self.method)
        return pd.DataFrame({
            "method": method,
            "predicted": self.predicted.cpu().numpy(),
            "radius": self.radius.cpu().numpy(),
            "rival": self.rival.cpu().numpy(),
        })

    def __str__(self) -> str:
        head = f"{self.guarantee} {self.norm} radii about the {self.subject}"
        return f"{head}\n{self.frame().to_string(max_rows=12)}"


def join_claims(claims: Sequence[Claim]) -> Claim:
    """Put the claims about several batches into one.

    Args:
        claims: At least one, by one method.

    Returns:
        The claim about all images, in order.
    """
    first = claims[0]
    if len(claims) == 1:
        return first
    methods = [claim.method for claim in claims]
    names = [name for method in methods if isinstance(method, tuple) for name in method]
    return replace(
        first,
        method=tuple(names) if names else first.method,
        predicted=torch.cat([claim.predicted for claim in claims]),
        radius=torch.cat([claim.radius for claim in claims]),
        rival=torch.cat([claim.rival for claim in claims]),
    )


def abstained(claim: Claim, rows: Tensor) -> Claim:
    """Claim nothing about some images.

    Args:
        claim: About B images.
        rows: (B,) truth values.

    Returns:
        The claim without them.
    """
    return replace(
        claim,
        predicted=claim.predicted.masked_fill(rows, ABSTAINED),
        radius=claim.radius.masked_fill(rows, 0.0),
        rival=claim.rival.masked_fill(rows, NO_RIVAL),
    )


def estimated(
    method: str, norm: str, pair_radii: Tensor, scores: Tensor, predicted: Tensor
) -> Claim:
    """Estimate the smallest radius over all other classes; nothing where the model gives no answer.

    Args:
        method: The estimate's name.
        norm: Norm of the perturbation.
        pair_radii: (B, K) estimated radius against class j.
        scores: (B, K) of the model.
        predicted: (B,) the highest.

    Returns:
        An estimate about the model.
    """
    radius, rival = nearest_other_class(pair_radii, predicted)
    claim = Claim(method, norm, "estimate", "model", predicted, radius, rival)
    return abstained(claim, ~answered(scores))


def nearest_other_class(pair_radii: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
    """Take the smallest radius over *all* other classes; the nearest is often not the runner-up.

    Args:
        pair_radii: (B, K) radius inside which class j cannot overtake; NaN counts as 0.
        predicted: (B,) classes, whose own entries are ignored.

    Returns:
        (B,) radii >= 0 in float64, and the (B,) other classes, -1 where no other class can ever
        overtake.
    """
    radii = torch.nan_to_num(pair_radii.double(), nan=0.0, posinf=torch.inf, neginf=0.0)
    own = torch.nn.functional.one_hot(predicted, radii.shape[1]).bool()
    radius, rival = radii.clamp_min(0.0).masked_fill(own, torch.inf).min(dim=1)
    return radius, torch.where(torch.isfinite(radius), rival, NO_RIVAL)
