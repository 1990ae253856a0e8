"""Build a small network with BatchNorm."""

from torch import nn

from robustcl.errors import InputError

LAYERS = 3


def batch_norm_convnet(
    *, channels: int = 3, image_size: int = 32, width: int = 16, embedding_size: int = 64
) -> nn.Sequential:
    """Build three 3x3 convolutions of stride 2 with BatchNorm and ReLU, and a linear layer.

    Each convolution is twice as wide as the one before. It is the small network on which two
    branches of BatchNorm mean something; certificates fold each branch into its convolution.

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
    layers: list[nn.Module] = []
    side, before = image_size, channels
    for number in range(LAYERS):
        after = width * 2**number
        layers.append(nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
        side, before = (side + 1) // 2, after
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side * side, embedding_size))
