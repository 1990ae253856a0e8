"""Spoil a network in five known ways that look like robustness and are none.

They are for self-tests: attacks from a twin without the defense go through every one of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

AMPLITUDE, FREQUENCY = 0.01, 5000.0  # of a ripple: small in height, 50 times the slope
SHARPNESS = 30.0
LEVELS = 8
STEPS, STEP = 8, 0.3


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
            for _ in range(STEPS):
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


def defended(flag: str, network: nn.Module) -> nn.Module:
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
