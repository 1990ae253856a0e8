"""Spoil a network in five known ways that look like robustness and are none.

They are for self-tests: attacks from a twin without the defense go through every one of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustcl.attacks._pgd import pgd
from robustcl.attacks.checks.subject import Flag, Subject
from robustcl.attacks.forward_passes import generators_seeded
from robustcl.attacks.steps import no_win, random_start
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat

_SAMPLES = 6  # random points per image that must not win
_STEPS = 8
_DEPTH = 0.9  # of the budget, at which the plant lies
_ROOM = 1e-4  # of the embedding's norm, below which the plant's lead is rounding
SHARE, LEAST = 0.1, 2  # of the images; an ordinary network has hardly one


def known_answer_missed(subject: Subject) -> Flag | None:
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

    inner = Threat(subject.threat.norm, _DEPTH * subject.threat.radii(images), subject.threat.box)
    with torch.no_grad():
        home, plant, *others = [embed(images)] + [
            embed(random_start(images, inner, subject.seeds, run=run, purpose="checks plant"))
            for run in range(_SAMPLES + 1)
        ]
        readout = torch.nn.functional.normalize(plant - home, dim=1)
        leads = torch.stack([((f - home) * readout).sum(dim=1) for f in (home, *others)], dim=1)
        reached, known = leads.amax(dim=1), ((plant - home) * readout).sum(dim=1)
        bars = (reached + known) / 2.0

    def margin(points: Tensor) -> Tensor:
        return ((embed(points) - home) * readout).sum(dim=1) - bars

    planted = known - reached > _ROOM * torch.linalg.vector_norm(home, dim=1)
    if not bool(planted.any()) or not _has_gradient(margin, images):
        return None
    found = pgd(Objective(margin), images, subject.threat, steps=_STEPS, restarts=1)
    with torch.no_grad():
        missed = planted & (no_win(margin(found.candidates)) <= 0)
    rows = torch.nonzero(missed)[:, 0].tolist()
    if len(rows) < max(SHARE * int(planted.sum()), LEAST):
        return None
    return Flag(
        "planted",
        f"On {len(rows)} of {int(planted.sum())} images {_STEPS} gradient steps miss an "
        "adversarial that was planted in the model's own embeddings: what gradient attacks do not "
        "find may be there.",
        tuple(rows),
        16,
    )


def _has_gradient(margin: Callable[[Tensor], Tensor], images: Tensor) -> bool:
    # Where nothing leads back to the image, ascent is not possible: see zero_gradient.
    with torch.enable_grad():
        return margin(images.detach().requires_grad_()).requires_grad


AMPLITUDE, FREQUENCY = 0.01, 5000.0  # of a ripple: small in height, 50 times the slope
SHARPNESS = 30.0
LEVELS = 8
_STEPS, STEP = 8, 0.3


class _Rippled(nn.Module):
    # A small ripple on the pixels, of which the gradient sees nothing else.

    def __init__(self, network: nn.Module, *, drawn: bool) -> None:
        super().__init__()
        self.network = network
        self.drawn = drawn

    def forward(self, images: Tensor) -> Tensor:
        if self.drawn:
            phases = 2.0 * torch.pi * torch.rand_like(images)
        else:
            count = images[0].numel()
            places = torch.arange(count, dtype=images.dtype, device=images.device)
            phases = (2.4 * places).view(images.shape[1:])
        return self.network(images + AMPLITUDE * torch.sin(FREQUENCY * images + phases))


class _Saturated(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.softmax(SHARPNESS * self.network(images), dim=1)


class _Rounded(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(torch.round(LEVELS * images) / LEVELS)


class _Assured(nn.Module):
    # Moves each image to where the network is surer of what it says, before it says it.

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            moved = images.detach().clone().requires_grad_()
            said = self.network(moved).argmax(dim=1)
            for _ in range(_STEPS):
                loss = nn.functional.cross_entropy(self.network(moved), said, reduction="sum")
                gradient = torch.autograd.grad(loss, moved)[0]
                moved = (moved - STEP * gradient.sign()).detach().requires_grad_()
        return self.network(images + (moved.detach() - images.detach()))


# By the flag that each has to raise.
DEFENSES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "gradient_masking": lambda network: _Rippled(network, drawn=False),
    "randomized": lambda network: _Rippled(network, drawn=True),
    "softmax_scores": _Saturated,
    "quantized_input": _Rounded,
    "test_time_optimization": _Assured,
}


def broken_defense(flag: str, network: nn.Module) -> nn.Module:
    """Put a defense in front of or behind a network.

    Besides its own flag a defense may raise others, and rightly: rounded and saturated models have
    no gradient, each draw of the randomized one masks gradients as the masked one does, and so
    does the optimization of the last.

    Args:
        flag: The flag that it has to raise: 'gradient_masking' (a ripple on the pixels, whose
            slope hides the network's), 'randomized' (the same with a phase that is drawn),
            'softmax_scores' (a sharp softmax), 'quantized_input' (nine gray levels) or
            'test_time_optimization' (steps towards the predicted class before predicting).
        network: Images (B, C, H, W) to scores (B, K); it is shared, not copied.

    Returns:
        The defended network, in the mode of the network.

    Reference:
        Athalye et al., Obfuscated Gradients Give a False Sense of Security, ICML 2018; the last is
        the anti-adversary layer of Alfarra et al., AAAI 2022.
    """
    return DEFENSES[flag](network).train(network.training)
