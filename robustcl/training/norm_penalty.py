"""Penalize the product of layer norms relative to the size of the embedding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from robustcl.core.errors import UnsupportedError

NON_EXPANSIVE = (nn.ReLU, nn.Flatten, nn.Identity, nn.Tanh)


@dataclass(frozen=True)
class NormProbe:
    """Hold the running guess of a layer's top right singular vector.

    Args:
        layer: A convolution or a linear layer.
        vector: (1, *input shape) unit vector; the penalty sharpens it in place at every call.
    """

    layer: nn.Conv2d | nn.Linear
    vector: Tensor


def norm_probes(
    backbone: nn.Module, *, image_shape: tuple[int, int, int], generator: torch.Generator
) -> tuple[NormProbe, ...]:
    """Start one probe per convolution or linear layer of a chain of layers.

    Args:
        backbone: An `nn.Sequential` of convolutions, linear layers and 1-Lipschitz layers.
        image_shape: (C, H, W) of the backbone's input.
        generator: Source of the first guesses, on the device of the backbone.

    Returns:
        The probes, first layer first.

    Raises:
        UnsupportedError: When the backbone is not such a chain.
    """
    if not isinstance(backbone, nn.Sequential):
        raise UnsupportedError(
            f"log_norm_penalty needs an nn.Sequential, not {type(backbone).__name__}; "
            "set log_norm_penalty=0 or train small_convnet"
        )
    probes = []
    value = torch.zeros(1, *image_shape, device=generator.device)
    with torch.no_grad():
        for layer in backbone:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                guess = torch.randn(value.shape, generator=generator, device=generator.device)
                probe = NormProbe(
                    layer, functional.normalize(guess.flatten(), dim=0).view_as(guess)
                )
                for _ in range(20):
                    estimated_layer_norm(probe)
                probes.append(probe)
            elif not isinstance(layer, NON_EXPANSIVE):
                raise UnsupportedError(
                    f"log_norm_penalty cannot bound {type(layer).__name__}; set "
                    "log_norm_penalty=0, or use only convolutions, linear layers and ReLU"
                )
            value = layer(value)
    return tuple(probes)


def estimated_layer_norm(probe: NormProbe) -> Tensor:
    """Take one power iteration and return the norm it gives, differentiable in the weights.

    Args:
        probe: The layer and its vector, which is replaced in place.

    Returns:
        A scalar that approaches the L2 operator norm from below: an estimate, not a bound.
    """
    with torch.no_grad():
        image = _apply(probe.layer, probe.vector)
        image = image / image.norm().clamp_min(1e-12)
        back = _apply_transposed(probe.layer, image, probe.vector.shape)
        probe.vector.copy_(back / back.norm().clamp_min(1e-12))
    return _apply(probe.layer, probe.vector.clone()).norm()


def log_norm_penalty(embeddings: Tensor, probes: Sequence[NormProbe]) -> Tensor:
    """Compute log(product of layer norms) - log(mean |h|).

    It is the logarithm of a Lipschitz estimate of h / |h|; lowering it widens the radius that the
    product of layer norms certifies. Scaling any layer without bias leaves it unchanged.

    Args:
        embeddings: (B, d) raw embeddings h(x).
        probes: From `norm_probes`; each is sharpened by one power iteration.

    Returns:
        A scalar, without sign constraint.
    """
    logs = torch.stack([estimated_layer_norm(probe).clamp_min(1e-12).log() for probe in probes])
    return logs.sum() - embeddings.float().norm(dim=1).mean().clamp_min(1e-12).log()


def _apply(layer: nn.Conv2d | nn.Linear, vector: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return functional.linear(vector, layer.weight)
    return functional.conv2d(
        vector, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups
    )


def _apply_transposed(
    layer: nn.Conv2d | nn.Linear, vector: Tensor, input_shape: torch.Size
) -> Tensor:
    if isinstance(layer, nn.Linear):
        return vector @ layer.weight
    if isinstance(layer.padding, str):
        raise UnsupportedError(f"padding={layer.padding!r} is unsupported; give it in pixels")
    # conv2d_input is annotated for int but documented, and written, for tuples as well.
    return conv2d_input(
        input_shape,
        layer.weight,
        vector,
        layer.stride,  # pyright: ignore[reportArgumentType]
        layer.padding,  # pyright: ignore[reportArgumentType]
        layer.dilation,  # pyright: ignore[reportArgumentType]
        layer.groups,
    )
