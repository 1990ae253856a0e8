"""Build the ResNet-18 for small images that contrastive papers use."""

from torch import nn

from robustcl.core.errors import InputError

FEATURES = 512
STEM_PADDINGS = {1: "the paper's stem", 2: "solo-learn's stem"}


def cifar_resnet18(
    *,
    channels: int = 3,
    embedding_size: int = FEATURES,
    stem_padding: int = 1,
    max_pool: bool = False,
) -> nn.Module:
    """Build ResNet-18 with a 3x3 stem of stride 1 and no max-pooling.

    Its keys are those of torchvision's ResNet-18, so common checkpoints fit. Stems with another
    padding, or with the max-pooling left in place, have the same keys and shapes and are other
    functions: weights must be used with the stem that they were trained with.

    Args:
        channels: Channels of the images.
        embedding_size: d; other than 512, a linear layer `fc` is put on the pooled features.
        stem_padding: Padding of the stem: 1 keeps the side of the images; 2, as in solo-learn and
            programs that follow it, makes it larger by 2.
        max_pool: Whether torchvision's max-pooling of stride 2 follows the stem.

    Returns:
        Images (B, channels, H, W) to raw embeddings (B, d).

    Raises:
        InputError: When the padding is neither 1 nor 2, or `max_pool` is not a truth value.

    Reference:
        He et al., Deep Residual Learning, CVPR 2016; the stem as in Chen et al., SimCLR, ICML
        2020, appendix B.9.
    """
    from torchvision.models.resnet import BasicBlock, ResNet  # slow to import

    if type(stem_padding) is not int or stem_padding not in STEM_PADDINGS:
        raise InputError(f"stem_padding {stem_padding!r} is neither 1 nor 2; see cifar_resnet18")
    if type(max_pool) is not bool:
        raise InputError(f"max_pool {max_pool!r} is neither true nor false")
    network = ResNet(BasicBlock, [2, 2, 2, 2])
    network.conv1 = nn.Conv2d(channels, 64, 3, padding=stem_padding, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    # Identities are read by torchvision's forward in place of the layers they replace.
    if not max_pool:
        network.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    identity = nn.Identity()
    wanted = identity if embedding_size == FEATURES else nn.Linear(FEATURES, embedding_size)
    network.fc = wanted  # pyright: ignore[reportAttributeAccessIssue]
    return network
