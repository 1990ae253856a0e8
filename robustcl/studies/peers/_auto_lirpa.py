"""Set certificates of the model itself beside the CROWN of auto_LiRPA."""

import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustcl.certify import certified_radius, prepared_model
from robustcl.certify._local import first_radii
from robustcl.certify.preparation import PreparedModel
from robustcl.certify.search import CLOSE
from robustcl.certify.verification_problem import VerificationProblem, verification_problem
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import UnsupportedError
from robustcl.studies.peers.comparison import (
    Comparison,
    ComparisonInputs,
    compare_programs,
    import_peer,
    named,
)

VARIABLE = "ROBUSTCL_AUTO_LIRPA"
_CURE = f"name the folders of a checkout and of what it needs in {VARIABLE}, as in PYTHONPATH"
_IMAGES = 8
_MOST_REPEATS = 3
BOTH: tuple[CertifiedNorm, ...] = ("l2", "linf")
MORE_STEPS = 8  # of the bisection, where radii are far below where it starts
_SMALLER = 0.99  # median of our radius over theirs below which ours is not as good


def auto_lirpa(inputs: ComparisonInputs) -> list[Comparison]:
    """Compare certified radii, then time.

    Ours is `sound`, theirs plain CROWN in float32 with the radius found by bisection, as `crown`
    does. Both radii are proved, so the larger one is the better.

    Args:
        inputs: Model and images.

    Returns:
        One comparison per norm.

    Raises:
        UnsupportedError: When the peer cannot state the margins of the model.
    """
    import_peer("auto_LiRPA", cure=_CURE, variable=VARIABLE)
    images = inputs.test.batch(range(min(_IMAGES, len(inputs.test)))).images.to(inputs.device)
    found = []
    for norm in BOTH:
        prepared = prepared_model(inputs.model, norm=norm, method="auto_lirpa")
        task = verification_problem(prepared, images)
        if not can_be_peered(inputs.model, task):
            raise UnsupportedError(
                "auto_LiRPA does not see through an input normalization in L2 and knows no "
                "projection to the sphere; compare a model without them"
            )
        found.append(
            compare_programs(
                inputs,
                f"certified radius, {norm}, {len(images)} images",
                named("auto_LiRPA"),
                ours=partial(_ours, inputs.model, images, norm, prepared),
                theirs=partial(peer_crown, inputs.model, task),
                agreement=_agreement,
                most_repeats=_MOST_REPEATS,
            )
        )
    return found


def can_be_peered(model: Classifier, task: VerificationProblem) -> bool:
    """Tell whether the peer can state the margins.

    It knows no projection to the sphere, so offsets there are out; and its L2 bounds do not see
    through an input normalization (seen: zero width after it), so there must be none.

    Args:
        model: The network.
        task: Its margins.

    Returns:
        Whether it can.
    """
    plain = bool((model.encoder.mean == 0).all() and (model.encoder.std == 1).all())
    return plain and not (model.normalizes and bool((task.pair.offsets != 0).any()))


def peer_crown(
    model: Classifier, task: VerificationProblem, *, steps: int = 8, close: float = CLOSE
) -> Tensor:
    """Bisect for the largest radius at which auto_LiRPA's CROWN keeps all margins positive.

    As in `crown`, an image is done when its radius is known to 2 `close`, so that neither side is
    behind for having searched less. In Linf all images go together, in L2 one by one, since the
    peer takes one radius per call there.

    Args:
        model: The network.
        task: Images and directions of the margins.
        steps: Of the bisection, as many as `crown` tries, or more where it needs more.
        close: Half of the relative width that is left.

    Returns:
        (B,) radii.
    """
    lirpa = import_peer("auto_LiRPA", cure=_CURE, variable=VARIABLE)
    # float32, its default; a plain run, as its users do it.
    images = task.images.float()
    bounded: Any = lirpa.BoundedModule(copy.deepcopy(model.encoder.backbone).float(), images[:1])
    own = torch.nn.functional.one_hot(task.predicted, task.margins.shape[1]).bool()
    rows = task.directions[~own].unflatten(0, (len(images), -1)).float()
    constants = task.constants[~own].unflatten(0, (len(images), -1))
    is_l2 = task.traced.norm == "l2"

    def holds(some: Tensor, radius: Tensor) -> Tensor:
        points, width = images[some], radius.float().view(-1, 1, 1, 1)
        if is_l2:
            ball = lirpa.PerturbationLpNorm(norm=2, eps=float(radius))
        else:
            ball = lirpa.PerturbationLpNorm(norm=np.inf, x_L=points - width, x_U=points + width)
        point = lirpa.BoundedTensor(points, ball)
        lower, _ = bounded.compute_bounds(
            x=(point,), C=rows[some], method="CROWN", bound_upper=False
        )
        return (lower.double() + constants[some] > 0).all(dim=1)

    low, high = torch.zeros(len(images)).double(), first_radii(task).amin(dim=1)
    for step in range(steps + MORE_STEPS):
        wide = high - low > 2.0 * close * high
        some = torch.nonzero(wide | (step < steps))[:, 0]
        if not len(some):
            break
        for part in some.split(1 if is_l2 else len(some)):
            trial = (low[part] + high[part]) / 2
            with torch.no_grad():
                held = holds(part, trial)
            low[part] = torch.where(held, trial, low[part])
            high[part] = torch.where(held, high[part], trial)
    return low


def _ours(
    model: Classifier, images: Tensor, norm: CertifiedNorm, prepared: PreparedModel
) -> Tensor:
    return certified_radius(model, images, norm=norm, prepared=prepared).radius


def _agreement(ours: Tensor, theirs: Tensor) -> tuple[bool, str]:
    middle = float((ours / theirs.clamp_min(1e-12)).median())
    lower = int((ours < _SMALLER * theirs).sum())
    text = f"our radius over theirs {middle:.3f} (median); ours is lower on {lower} images"
    return middle >= _SMALLER, text
