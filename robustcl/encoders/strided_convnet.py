"""Build the small network of the studies on photographs."""

from torch import nn

from robustcl.core.errors import InputError

LAYERS = 3


def strided_convnet(
    *,
    channels: int = 3,
    image_size: int = 32,
    width: int = 16,
    embedding_size: int = 64,
    batch_norm: bool = False,
) -> nn.Sequential:
    """Build three 3x3 convolutions of stride 2, each twice as wide, and a linear layer, with ReLU.

    By default there is no BatchNorm, so that every certificate applies and none is loosened by it.
    It then has 89,000 weights and trains on 5,000 images in seconds per epoch on one core.

    Args:
        channels: Channels of the images.
        image_size: Side of the square images.
        width: Channels of the first convolution.
        embedding_size: d.
        batch_norm: Whether BatchNorm follows each convolution, in place of its bias.

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
        layers.append(nn.Conv2d(before, after, 3, stride=2, padding=1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(after), nn.ReLU()] if batch_norm else [nn.ReLU()]
        side, before = (side + 1) // 2, after
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side * side, embedding_size))
