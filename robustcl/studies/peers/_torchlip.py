"""Set the product of norms beside the certificate of a network of deel-torchlip."""

import math

import torch
from torch import Tensor, nn

from robustcl.certify import prepared_model, product
from robustcl.core.classifier import Classifier
from robustcl.models.encoders import MaxMin
from robustcl.studies.peers.comparison import (
    Comparison,
    ComparisonInputs,
    compare_programs,
    import_peer,
    named,
)

WIDTH = 64
_SMALLER = 0.99  # median of our radius over theirs below which ours is not as good


def torchlip(inputs: ComparisonInputs) -> list[Comparison]:
    """Compare certified L2 radii of one 1-Lipschitz network, then time.

    The network has three `SpectralLinear` layers with MaxMin between and fresh weights. Theirs is
    the margin over sqrt(2), the norms taken to be 1 as the package ensures them by iteration; ours
    bounds the norms of the exported weights from above, in floating point as well.

    Args:
        inputs: Images; the model plays no role.

    Returns:
        One comparison.
    """
    peer = import_peer("deel.torchlip", cure="pip install deel-torchlip")
    images = inputs.test.batch(range(len(inputs.test))).images.to(inputs.device)
    torch.manual_seed(inputs.seed)
    size = math.prod(images.shape[1:])
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in ((size, WIDTH), (WIDTH, WIDTH)):
        layers += [peer.SpectralLinear(before, after), MaxMin()]
    layers.append(peer.SpectralLinear(WIDTH, inputs.test.num_classes))
    lipschitz = nn.Sequential(*layers).to(inputs.device).eval()
    plain = nn.Sequential(*(_exported(layer) for layer in lipschitz)).requires_grad_(False)
    model = Classifier.from_scores(plain, image_shape=inputs.test.image_shape).eval()
    model.to(inputs.device)
    prepared = prepared_model(model, norm="l2", method="torchlip")

    def ours() -> Tensor:
        return product(model, images, norm="l2", prepared=prepared).radius.cpu()

    def theirs() -> Tensor:
        with torch.no_grad():
            best = lipschitz(images).topk(2, dim=1).values
        return ((best[:, 0] - best[:, 1]) / math.sqrt(2.0)).double().cpu()

    return [
        compare_programs(
            inputs,
            f"certified L2 radius of a 1-Lipschitz network, {len(images)} images",
            named("deel-torchlip"),
            ours=ours,
            theirs=theirs,
            agreement=_agreement,
        )
    ]


def _exported(layer: nn.Module) -> nn.Module:
    export = getattr(layer, "vanilla_export", None)
    return layer if export is None else export()


def _agreement(ours: Tensor, theirs: Tensor) -> tuple[bool, str]:
    over = ours / theirs.clamp_min(1e-12)
    text = f"our radius over theirs {float(over.median()):.4f} (least {float(over.min()):.4f})"
    return float(over.median()) >= _SMALLER, text
