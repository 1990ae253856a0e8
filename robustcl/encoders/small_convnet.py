"""Build the small network of the demo."""

from torch import nn

from robustcl.core.errors import InputError


def small_convnet(
    *, channels: int = 3, image_size: int = 32, width: int = 32, embedding_size: int = 64
) -> nn.Sequential:
    """Build two 3x3 convolutions, the second of stride 2, and a linear layer, with ReLU between.

    There is no BatchNorm and no layer but those whose norm is known well: every certificate
    applies. A deeper network was tried on digits; the log-norm penalty then collapses it.

    Args:
        channels: Channels of the images.
        image_size: Side of the square images.
        width: Channels of the first convolution.
        embedding_size: d.

    Returns:
        Images (B, channels, S, S) to raw embeddings (B, d).

    Raises:
        InputError: When the size is not positive.
    """
    if image_size < 1:
        raise InputError(f"image_size {image_size} is below 1; give the side in pixels")
    half = (image_size + 1) // 2
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * half * half, embedding_size),
    )
