"""Factories of defended networks, for checkpoints of the kind package.module:factory."""

from torch import nn

from robustcl.attacks.checks.known_answers import broken_defense
from robustcl.models.encoders import small_convnet


def defended_convnet(*, flag: str) -> nn.Module:
    network = small_convnet(channels=1, image_size=8, width=4, embedding_size=5)
    return broken_defense(flag, network) if flag else network
