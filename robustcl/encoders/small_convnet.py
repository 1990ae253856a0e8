"""Build the small network of the demo."""

from torch import nn

from robustcl.errors import InputError


def small_convnet(
    *, channels: int = 3, image_size: int = 32, width: int = 32, embedding_size: int = 64
) -> nn.Sequential:
    """Build four 3x3 or strided convolutions and one linear layer, with ReLU, without BatchNorm.

    No layer is there but those whose norm is known well: every certificate applies.

    Args:
        channels: Channels of the images.
        image_size: Side of the square images, a multiple of 4.
        width: Channels of the first convolution.
        embedding_size: d.

    Returns:
        Images (B, channels, S, S) to raw embeddings (B, d).

    Raises:
        InputError: When the size is not a positive multiple of 4.
    """
    if image_size < 4 or image_size % 4:
        raise InputError(f"image_size {image_size} is not a positive multiple of 4; resize")
    final = image_size // 4
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 2, stride=2),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * final * final, embedding_size),
    )
