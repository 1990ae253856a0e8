"""Fit a head on a frozen encoder."""

import hashlib
import math

import torch

from robustcl.core.abstention import directed, warn_abstained
from robustcl.core.batching import fixed_size
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError, RunError
from robustcl.core.hashes import raw_bytes
from robustcl.core.lazy import declared
from robustcl.core.modules import eval_mode
from robustcl.data.dataset import Dataset
from robustcl.declarations.heads import HEAD_ROWS


@torch.inference_mode(False)
def fit_head(
    encoder: Encoder,
    dataset: Dataset,
    *,
    kind: str = "prototype",
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    noise: float = 0.0,
    seed: int = 0,
    warn: bool = True,
) -> Classifier:
    """Fit a head; weights and BatchNorm statistics of the encoder stay as they are.

    Images whose embedding has no direction, as 0 has none, are left out.

    Args:
        encoder: The encoder; moved to the device.
        dataset: Training images with labels.
        kind: A key of `HEAD_ROWS`: 'prototype', 'linear', 'lipschitz_linear' (for 1-Lipschitz
            encoders) or 'knn'.
        batch_size: Images per model call.
        device: Where to compute.
        noise: Standard deviation of Gaussian noise added to the images, as in the smoothed model
            that is to be certified.
        seed: Of the noise.
        warn: Whether to name images that are left out on stderr.

    Returns:
        The classifier on the CPU, in eval mode.

    Raises:
        InputError: When the kind is unknown, the data is unlabeled or of another size, or no image
            has an embedding with a direction.
        RunError: When the encoder changed, which would be a defect.
    """
    if kind not in HEAD_ROWS:
        raise InputError(f"unknown head {kind!r}; use {', '.join(HEAD_ROWS)}")
    if not dataset.labeled:
        raise InputError(f"{dataset.name!r} has no labels; a head needs them")
    before = encoder_hash(encoder)
    points = embed_images(
        encoder, dataset, batch_size=batch_size, device=device, noise=noise, seed=seed
    )
    encoder.to("cpu")
    if encoder_hash(encoder) != before:
        raise RunError("the encoder changed while a head was fitted; please report this")
    labels, known = torch.from_numpy(dataset.labels), directed(points)
    lost = torch.nonzero(~known)[:, 0].tolist()
    if not bool(known.any()):
        raise InputError(
            f"the embeddings of all {len(dataset)} images of {dataset.name!r} are 0 or not finite; "
            "the encoder is not usable, train it again"
        )
    if warn:
        among = f"the {len(dataset)} that the head is fitted on"
        warn_abstained(lost, "left out of the fit", among=among)
    fit = declared(f"models.heads.{HEAD_ROWS[kind].home}")
    head = fit(points[known], labels[known], num_classes=dataset.num_classes)
    return Classifier(encoder, head, class_names=dataset.class_names).eval()


def embed_images(
    encoder: Encoder,
    dataset: Dataset,
    *,
    batch_size: int,
    device: str | torch.device = "cpu",
    noise: float = 0.0,
    seed: int = 0,
) -> torch.Tensor:
    """Compute raw embeddings of a data set.

    Args:
        encoder: The encoder; moved to the device.
        dataset: The images.
        batch_size: Images per model call.
        device: Where to compute.
        noise: Standard deviation of Gaussian noise added to the images, not clipped to the box.
        seed: Of the noise, which is drawn on the CPU.

    Returns:
        (N, d) on the CPU.

    Raises:
        InputError: When the images are of another size than the encoder takes, or the noise is
            negative or not finite.
    """
    if not 0.0 <= noise < math.inf:
        raise InputError(f"noise {noise} is negative or not finite; use 0 for none")
    if dataset.image_shape != encoder.image_shape:
        raise InputError(
            f"{dataset.name!r} has images of shape {dataset.image_shape} (C, H, W) but the encoder "
            f"takes {encoder.image_shape}; add ',size=N' to the data, or convert with --input-size"
        )
    parts = []
    generator = torch.Generator().manual_seed(seed)
    encoder.to(device)
    with torch.no_grad(), eval_mode(encoder):
        for batch in dataset.batches(batch_size):
            images = batch.images
            if noise:
                images = images + noise * torch.randn(images.shape, generator=generator)
            parts.append(fixed_size(encoder, images.to(device), batch_size=batch_size).cpu())
    return torch.cat(parts)


def encoder_hash(encoder: Encoder) -> str:
    """Hash all weights and statistics of an encoder.

    Args:
        encoder: The encoder.

    Returns:
        SHA-256 in hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(raw_bytes(value))
    return digest.hexdigest()
