"""Find out whether an encoder was trained with another input normalization than it is given."""

import numpy as np
import torch
from torch import Tensor

from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError
from robustcl.data import Dataset, stratified_split
from robustcl.models.heads import prototype
from robustcl.models.heads.fitting import embed_images

_IMAGES = 1000  # at least four per class
# Four trained encoders whose normalization was right gained nothing and 64 untrained networks 5.2
# points at most; two CIFAR networks that were trained with another normalization gained 21 and 47.
FAR_ABOVE = 0.1
SIGNIFICANCE = 1e-3


def normalization_doubt(
    encoder: Encoder,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> str | None:
    """Say where another normalization of the inputs makes an encoder far more accurate.

    Up to 1,000 images (more where there are many classes) are split in halves by class: on the
    embeddings of one a prototype head is fitted, on the other its accuracy is measured. The inputs
    are normalized as the encoder does it, by the mean and deviation of these images, and not at
    all. There is a doubt where the accuracy is more than 10 points above the encoder's own and an
    exact test of the images that only one of the two gets right is significant at .001.

    Args:
        encoder: The encoder; its weights stay as they are.
        dataset: Training images with labels.
        batch_size: Images per model call.
        device: Where to compute; the encoder is on the CPU afterwards.
        seed: Of the choice of images.

    Returns:
        One sentence; None where there is no such doubt.

    Reference:
        McNemar, Note on the Sampling Error of the Difference Between Correlated Proportions or
        Percentages, Psychometrika 1947; the exact form.
    """
    halves = _halves(dataset, seed)
    if halves is None:
        return None
    fitted, held = halves
    own = (_numbers(encoder.mean), _numbers(encoder.std))
    right: dict[tuple[tuple[float, ...], tuple[float, ...]], Tensor] = {}
    for mean, std in (own, _statistics(fitted), ((0.0,), (1.0,))):
        encoder.to("cpu")
        tried = Encoder(encoder.backbone, image_shape=encoder.image_shape, mean=mean, std=std)
        try:
            points, others = (
                embed_images(tried, part, batch_size=batch_size, device=device) for part in halves
            )
            right[mean, std] = _right(points, others, fitted, held)
        except InputError:  # embeddings that are zero or not finite
            right[mean, std] = torch.zeros(len(held), dtype=torch.bool)
    encoder.to("cpu")
    best = max(right, key=lambda key: int(right[key].sum()))
    if not far_above(right[best], right[own]):
        return None
    shares = [f"{float(right[key].double().mean()):.1%}" for key in (best, own)]
    return (
        f"a prototype head is right on {shares[0]} of {len(held)} held-out images with inputs of "
        f"{_text(*best)}, and on {shares[1]} with those of this checkpoint, {_text(*own)}: the "
        "network was probably trained with another normalization; convert it again with the --mean "
        "and --std of its training"
    )


def _halves(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset] | None:
    classes = len(np.unique(dataset.labels))
    wanted = max(_IMAGES, 4 * classes)
    if wanted < len(dataset):
        share = wanted / len(dataset)
        dataset = dataset.select(stratified_split(dataset.labels, test_share=share, seed=seed)[1])
    fitted, held = stratified_split(dataset.labels, test_share=0.5, seed=seed)
    return (dataset.select(fitted), dataset.select(held)) if len(held) else None


def _statistics(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    total, squares, count = 0.0, 0.0, 0
    for batch in dataset.batches(256):
        pixels = batch.images.double()
        total = total + pixels.sum((0, 2, 3))
        squares = squares + pixels.square().sum((0, 2, 3))
        count += pixels.shape[0] * pixels.shape[2] * pixels.shape[3]
    mean = torch.as_tensor(total / count)
    std = (torch.as_tensor(squares / count) - mean.square()).clamp_min(0).sqrt()
    return _numbers(mean), _numbers(torch.where(std < 1e-3, 1.0, std))  # a channel without content


def _right(own: Tensor, other: Tensor, fitted: Dataset, held: Dataset) -> Tensor:
    classes = np.unique(fitted.labels)
    labels = [torch.from_numpy(np.searchsorted(classes, part.labels)) for part in (fitted, held)]
    head = prototype(own, labels[0], num_classes=len(classes))
    units = torch.nn.functional.normalize(other.double(), dim=1)
    return head(units).argmax(dim=1) == labels[1]


def far_above(best: Tensor, own: Tensor) -> bool:
    """Tell whether one model is far more accurate than another on the same images.

    Args:
        best: (N,) whether the one is right.
        own: (N,) whether the other is.

    Returns:
        Whether it is more than 10 points better, and an exact test of the images that only one of
        the two gets right is significant at .001.
    """
    gained, lost = int((best & ~own).sum()), int((own & ~best).sum())
    if gained - lost <= FAR_ABOVE * len(own):
        return False
    from scipy.stats import binomtest  # slow to import

    return bool(binomtest(gained, gained + lost, alternative="greater").pvalue < SIGNIFICANCE)


def _numbers(row: Tensor) -> tuple[float, ...]:
    return tuple(float(number) for number in row.flatten())


def _text(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    mean_text, std_text = (",".join(f"{number:.3g}" for number in row) for row in (mean, std))
    return f"mean {mean_text} and std {std_text}"
