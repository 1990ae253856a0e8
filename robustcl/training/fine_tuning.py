"""Fine-tune an encoder together with a linear head."""

import math

import torch
from torch import nn
from torch.nn import functional

from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError, RunError
from robustcl.data.dataset import Dataset
from robustcl.data.views.options import default_views
from robustcl.data.views.simclr import simclr_views
from robustcl.models.heads import LinearHead
from robustcl.models.heads.fitting import fit_head
from robustcl.training.optimizers import rate

WARMUP = 0.1


def fine_tune(
    encoder: Encoder,
    dataset: Dataset,
    *,
    epochs: int = 10,
    learning_rate: float = 3e-4,
    weight_decay: float = 1e-4,
    batch_size: int = 128,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Classifier:
    """Fit a linear head on the frozen encoder, then train both by cross entropy on views.

    The encoder's weights and BatchNorm statistics change.

    Args:
        encoder: What is tuned.
        dataset: Labeled training images, two of every class at least.
        epochs: Passes over the images.
        learning_rate: Peak of AdamW's schedule, well below that of training.
        weight_decay: Decoupled weight decay.
        batch_size: Images per step; fewer where there are fewer.
        seed: Seed of order and views.
        device: Where to train.

    Returns:
        The classifier on the CPU, in eval mode.

    Raises:
        InputError: When epochs or rate are not positive, or there are fewer than 2 images.
        RunError: When the loss is not finite.

    Reference:
        Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform
        Out-of-Distribution, ICLR 2022 (linear probing, then fine-tuning).
    """
    if epochs < 1 or not 0.0 < learning_rate < math.inf or len(dataset) < 2:
        raise InputError(
            f"fine-tuning of {len(dataset)} images for {epochs} epochs at rate {learning_rate}; "
            "give 2 images, 1 epoch and a positive rate at least"
        )
    # An image without a direction is left out of the start only, so nothing is said of it here.
    start = fit_head(
        encoder, dataset, kind="linear", batch_size=batch_size, device=device, warn=False
    )
    assert start.affine_head is not None
    weight, bias = (nn.Parameter(part.clone().to(device)) for part in start.affine_head)
    encoder.to(device).train()
    images, labels = dataset.tensor().to(device), torch.from_numpy(dataset.labels).to(device)
    views = default_views(dataset.name, dataset.image_shape)
    generator = torch.Generator(device).manual_seed(seed)
    optimizer = torch.optim.AdamW([*encoder.parameters(), weight, bias], weight_decay=weight_decay)
    size = min(batch_size, len(dataset))
    per_epoch = len(dataset) // size
    batches: tuple[torch.Tensor, ...] = ()
    for step in range(epochs * per_epoch):
        if step % per_epoch == 0:
            order = torch.randperm(len(images), generator=generator, device=images.device)
            batches = order[: per_epoch * size].split(size)
        rows = batches[step % per_epoch]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rate(step / (epochs * per_epoch), WARMUP)
        view, _ = simclr_views(images[rows], options=views, generator=generator)
        points = functional.normalize(encoder(view).float(), dim=1)
        loss = functional.cross_entropy(functional.linear(points, weight, bias), labels[rows])
        if not math.isfinite(float(loss.detach())):
            raise RunError(f"the loss became {float(loss.detach())}; lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    head = LinearHead(weight.detach().cpu(), bias.detach().cpu())
    return Classifier(encoder.to("cpu"), head, class_names=dataset.class_names).eval()
