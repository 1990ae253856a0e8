"""Build the ResNet-18 for small images that contrastive papers use."""

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

FEATURES = 512


def cifar_resnet18(*, channels: int = 3, embedding_size: int = FEATURES) -> nn.Module:
    """Build ResNet-18 with a 3x3 stem of stride 1 and no max-pooling.

    Its keys are those of torchvision's ResNet-18, so common checkpoints fit.

    Args:
        channels: Channels of the images.
        embedding_size: d; other than 512, a linear layer `fc` is put on the pooled features.

    Returns:
        Images (B, channels, H, W) to raw embeddings (B, d).

    Reference:
        He et al., Deep Residual Learning, CVPR 2016; the stem as in Chen et al., SimCLR, ICML
        2020, appendix B.9.
    """
    network = ResNet(BasicBlock, [2, 2, 2, 2])
    network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    # Identities are read by torchvision's forward in place of the layers they replace.
    network.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    identity = nn.Identity()
    wanted = identity if embedding_size == FEATURES else nn.Linear(FEATURES, embedding_size)
    network.fc = wanted  # pyright: ignore[reportAttributeAccessIssue]
    return network
