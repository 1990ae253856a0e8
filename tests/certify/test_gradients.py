"""Slopes of all pairs, batch by batch, against one batch."""

import pytest
import torch

from robustcl.certify import output_gradients, pairwise_gradient_norms, pairwise_slopes
from robustcl.core.choices import CertifiedNorm
from tests.network import small_classifier, some_images


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_batches_change_nothing(norm: CertifiedNorm) -> None:
    model, images = small_classifier().double(), some_images(7).double()
    outputs, slopes = pairwise_slopes(model, images, norm=norm, batch_size=3)
    scores, gradients = output_gradients(model, images)
    torch.testing.assert_close(outputs, scores)
    torch.testing.assert_close(slopes, pairwise_gradient_norms(gradients, norm=norm))
