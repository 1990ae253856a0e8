"""The network of the studies halves the side three times and can be certified."""

import pytest
import torch
from torch import nn

from robustcl import certify
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.models.encoders import strided_convnet
from robustcl.models.heads import PrototypeHead


@pytest.mark.parametrize("side", [8, 9, 28, 32])
def test_takes_images_of_every_side(side: int) -> None:
    network = strided_convnet(channels=1, image_size=side, width=2, embedding_size=5)
    assert network(torch.rand(3, 1, side, side)).shape == (3, 5)


def test_every_certificate_applies() -> None:
    torch.manual_seed(0)
    network = strided_convnet(channels=1, image_size=8, width=2, embedding_size=4)
    encoder = Encoder(network, image_shape=(1, 8, 8))
    model = Classifier(encoder, PrototypeHead(torch.randn(3, 4))).eval()
    images = torch.rand(4, 1, 8, 8)
    for method in (certify.product, certify.local, certify.crown, certify.certified_radius):
        claim = method(model, images, norm="linf")
        assert claim.guarantee == "deterministic" and bool((claim.radius > 0).all()), method
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network)


def test_refuses_no_pixels() -> None:
    with pytest.raises(InputError, match="below 1"):
        strided_convnet(image_size=0)
