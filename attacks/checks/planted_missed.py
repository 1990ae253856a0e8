"""Plant an adversarial in the user's own encoder, and see whether gradient ascent finds it."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustcl.attacks.checks.flag import Flag
from robustcl.attacks.checks.subject import Subject
from robustcl.attacks.counted import generators_seeded
from robustcl.attacks.gradient import no_win
from robustcl.attacks.pgd import pgd
from robustcl.attacks.random_start import random_start
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat

SAMPLES = 6  # random points per image that must not win
STEPS = 8
DEPTH = 0.9  # of the budget, at which the plant lies
ROOM = 1e-4  # of the embedding's norm, below which the plant's lead is rounding
SHARE, LEAST = 0.1, 2  # of the images; an ordinary network has hardly one


def planted_missed(subject: Subject) -> Flag | None:
    """Look for plants by a few steps of gradient ascent.

    For each image x a random point x' of the ball is planted by a readout of the user's own
    embeddings f: the adversary wins where <f(y), w> exceeds a bar, with w = f(x') - f(x). The bar
    lies half way between the best of x and a few other random points and x' itself. So an
    adversarial is known to be there, and random points miss it. Images on which x' does not lead
    are left out.

    Args:
        subject: Model, images and threat.

    Returns:
        The flag 'planted' with the images whose plant was missed where they are at least a tenth
        and two, or None.

    Reference:
        Zimmermann et al., Increasing Confidence in Adversarial Robustness Evaluations, NeurIPS
        2022: the same test, with a readout that is fitted.
    """
    images = subject.images

    def embed(points: Tensor) -> Tensor:
        with generators_seeded(subject.seeds):
            return subject.classifier.embeddings(points)

    inner = Threat(subject.threat.norm, DEPTH * subject.threat.radii(images), subject.threat.box)
    with torch.no_grad():
        home, plant, *others = [embed(images)] + [
            embed(random_start(images, inner, subject.seeds, run=run, purpose="checks plant"))
            for run in range(SAMPLES + 1)
        ]
        readout = torch.nn.functional.normalize(plant - home, dim=1)
        leads = torch.stack([((f - home) * readout).sum(dim=1) for f in (home, *others)], dim=1)
        reached, known = leads.amax(dim=1), ((plant - home) * readout).sum(dim=1)
        bars = (reached + known) / 2.0

    def margin(points: Tensor) -> Tensor:
        return ((embed(points) - home) * readout).sum(dim=1) - bars

    planted = known - reached > ROOM * torch.linalg.vector_norm(home, dim=1)
    if not bool(planted.any()) or not _has_gradient(margin, images):
        return None
    found = pgd(Objective(margin), images, subject.threat, steps=STEPS, restarts=1)
    with torch.no_grad():
        missed = planted & (no_win(margin(found.candidates)) <= 0)
    rows = torch.nonzero(missed)[:, 0].tolist()
    if len(rows) < max(SHARE * int(planted.sum()), LEAST):
        return None
    return Flag(
        "planted",
        f"On {len(rows)} of {int(planted.sum())} images {STEPS} gradient steps miss an "
        "adversarial that was planted in the model's own embeddings: what gradient attacks do not "
        "find may be there.",
        tuple(rows),
        16,
    )


def _has_gradient(margin: Callable[[Tensor], Tensor], images: Tensor) -> bool:
    # Where nothing leads back to the image, ascent is not possible: see zero_gradient.
    with torch.enable_grad():
        return margin(images.detach().requires_grad_()).requires_grad
