"""Build a small network with BatchNorm."""

from torch import nn

from robustcl.encoders.strided_convnet import strided_convnet


def batch_norm_convnet(
    *, channels: int = 3, image_size: int = 32, width: int = 16, embedding_size: int = 64
) -> nn.Sequential:
    """Build `strided_convnet` with BatchNorm after each convolution.

    It is the small network on which two branches of BatchNorm mean something; certificates fold
    each branch into its convolution.

    Args:
        channels: Channels of the images.
        image_size: Side of the square images.
        width: Channels of the first convolution; each next one has twice as many.
        embedding_size: d.

    Returns:
        Images (B, channels, S, S) to raw embeddings (B, d).
    """
    return strided_convnet(
        channels=channels,
        image_size=image_size,
        width=width,
        embedding_size=embedding_size,
        batch_norm=True,
    )
