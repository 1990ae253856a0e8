"""Build a network that is 1-Lipschitz by construction."""

from typing import Literal

from torch import nn

from robustcl.core.errors import InputError
from robustcl.models.encoders.max_min import MaxMin

Size = Literal["small", "large"]
WIDTHS: dict[Size, tuple[int, int]] = {"small": (64, 256), "large": (128, 512)}


def lipschitz_convnet(
    *,
    channels: int = 3,
    image_size: int = 32,
    size: Size = "small",
    width: int | None = None,
    hidden: int | None = None,
    embedding_size: int = 64,
    overlapping: int = 0,
) -> nn.Sequential:
    """Build orthogonal convolutions on patches, MaxMin, and an orthogonal projector.

    Kernels are as large as their strides, so that patches do not overlap and a convolution is one
    matrix: the network is 1-Lipschitz when all matrices have a spectral norm of 1, as they have
    here from the start, see `orthogonalize` for how training keeps it. The first patches are of
    4 x 4 pixels (2 x 2 in images below 16 pixels), those of further convolutions of 2 x 2 until
    the side is 2 or odd, with twice the channels each; two linear layers project the rest. These
    are plain layers of torch and `MaxMin`. That the product of layer norms is 1 is measured by
    `certify.bounds.network_lipschitz_bound`, not taken from this text.

    Args:
        channels: Channels of the images.
        image_size: Side of the square images.
        size: 'small' or 'large', which set width and hidden.
        width: Channels of the first convolution, even; None for 64 or 128.
        hidden: Units between the two linear layers, even; None for 256 or 512.
        embedding_size: d.
        overlapping: Convolutions of 3 x 3 with circular padding after the first one. Patch
            matrices do not make them 1-Lipschitz: train them with `lipschitz:layers=orthogonal`
            or `layers=aol`.

    Returns:
        Images (B, channels, S, S) to raw embeddings (B, d).

    Raises:
        InputError: When a number is not usable.
    """
    if size not in WIDTHS:
        raise InputError(f"unknown size {size!r}; use 'small' or 'large'")
    width, hidden = width or WIDTHS[size][0], hidden or WIDTHS[size][1]
    for name, number in (("width", width), ("hidden", hidden)):
        if number < 2 or number % 2:
            raise InputError(f"{name} {number} is not even; MaxMin sorts channels in pairs")
    patch = 4 if image_size >= 16 else 2
    if image_size < patch or image_size % patch or overlapping < 0 or embedding_size < 1:
        raise InputError(
            f"image_size {image_size}, overlapping {overlapping}, embedding_size {embedding_size}; "
            f"give a multiple of {patch}, 0 or more, and 1 or more"
        )
    layers: list[nn.Module] = [nn.Conv2d(channels, width, patch, stride=patch), MaxMin()]
    for _ in range(overlapping):
        kernel = nn.Conv2d(width, width, 3, padding=1, padding_mode="circular")
        layers += [kernel, MaxMin()]
    side = image_size // patch
    while side > 2 and side % 2 == 0:
        layers += [nn.Conv2d(width, 2 * width, 2, stride=2), MaxMin()]
        width, side = 2 * width, side // 2
    layers += [nn.Flatten(), nn.Linear(width * side * side, hidden), MaxMin()]
    layers.append(nn.Linear(hidden, embedding_size))
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            _start(layer)
    return nn.Sequential(*layers)


def _start(layer: nn.Conv2d | nn.Linear) -> None:
    # A 3 x 3 kernel starts as an orthogonal matrix at its center, which is orthogonal as well.
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    if layer.weight.ndim == 4 and layer.kernel_size != layer.stride:
        nn.init.zeros_(layer.weight)
        nn.init.orthogonal_(layer.weight.data[:, :, 1, 1])
    else:
        nn.init.orthogonal_(layer.weight)
