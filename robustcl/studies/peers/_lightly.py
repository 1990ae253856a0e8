"""Set SimCLR's pipeline beside lightly's: the views alone, and whole training steps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from robustcl.core.classifier import Encoder
from robustcl.data import Dataset
from robustcl.data.views import COLOR_VIEWS, simclr_views
from robustcl.models.architectures import build_backbone
from robustcl.studies.peers.comparison import (
    Comparison,
    ComparisonInputs,
    compare_programs,
    import_peer,
    named,
)
from robustcl.training.losses import nt_xent
from robustcl.training.recipe import TrainRecipe
from robustcl.training.start_run import begin_training
from robustcl.training.train_step import train_step

LEARNING_RATE, WEIGHT_DECAY, TEMPERATURE = 1e-3, 1e-4, 0.5
IMAGES, SIDE = 1024, 32
_CLOSE = 1e-5  # relative difference of the losses
Epoch = Callable[[], None]


@dataclass(frozen=True)
class Pipeline:
    """Say what both sides do.

    Args:
        network: Name of the architecture.
        batch_size: Images per step.
        blur: Probability of a blur.
        workers: Of lightly's DataLoader.
        device: cpu, cuda, ...
    """

    network: str = "small_convnet"
    batch_size: int = 256
    blur: float = 0.0
    workers: int = 2
    device: str = "cpu"


class Pictures(TorchDataset):
    """Hold decoded PIL images, as torchvision's CIFAR10 does; lightly sets the transform."""

    transform: Any = None

    def __init__(self, dataset: Dataset) -> None:
        self.images = [Image.fromarray(image) for image in dataset.images[slice(None)]]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        """Return the views of one image and no label."""
        return self.transform(self.images[row]), 0


def lightly(inputs: ComparisonInputs) -> list[Comparison]:
    """Compare the value of NT-Xent, then the time of an epoch of views, and of training.

    The images are uniform noise of 32 x 32 x 3: no time depends on what they show.

    Args:
        inputs: Device, seed and repeats.

    Returns:
        Two comparisons.
    """
    import_peer("lightly.loss", cure="pip install lightly")
    draws = np.random.default_rng(inputs.seed)
    images = draws.integers(0, 256, size=(IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    dataset = Dataset("noise/train", images, np.zeros(IMAGES, dtype=np.int64), ("none",), False)
    pipeline = Pipeline(device=inputs.device)
    ours, theirs = own_epochs(dataset, pipeline), lightly_epochs(dataset, pipeline)
    return [
        compare_programs(
            inputs,
            f"SimCLR, {part} of {IMAGES} images of 32 x 32 x 3, {pipeline.network}",
            named("lightly"),
            ours=mine,
            theirs=other,
            agreement=lambda *_: _losses_agree(inputs.seed),
        )
        for part, mine, other in zip(("views", "training steps"), ours, theirs, strict=True)
    ]


def network(pipeline: Pipeline) -> Encoder:
    """Build the network that both train.

    Args:
        pipeline: Its architecture and device.

    Returns:
        The encoder, with the same weights each time.
    """
    torch.manual_seed(0)
    backbone = build_backbone(pipeline.network, {})
    return Encoder(backbone, image_shape=(3, SIDE, SIDE)).to(pipeline.device)


def lightly_loader(dataset: Dataset, pipeline: Pipeline) -> DataLoader:
    """Build lightly's loader, as its README shows.

    Args:
        dataset: The images.
        pipeline: Batch size, blur and workers.

    Returns:
        A loader of ((first, second), labels, names).
    """
    from lightly.data import LightlyDataset  # pyright: ignore[reportMissingImports]
    from lightly.transforms.simclr_transform import (  # pyright: ignore[reportMissingImports]
        SimCLRTransform,
    )

    transform = SimCLRTransform(
        input_size=SIDE,
        cj_prob=COLOR_VIEWS.jitter,
        cj_strength=0.5,  # .4, .4, .4 and .1, what lightly recommends for small images
        min_scale=COLOR_VIEWS.crop_scale[0],
        random_gray_scale=COLOR_VIEWS.gray,
        gaussian_blur=pipeline.blur,
        hf_prob=COLOR_VIEWS.flip,
        normalize=None,
    )
    return DataLoader(
        LightlyDataset.from_torch_dataset(Pictures(dataset), transform=transform),  # pyright: ignore[reportArgumentType]
        batch_size=pipeline.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=pipeline.workers,
        persistent_workers=pipeline.workers > 0,
        pin_memory=pipeline.device == "cuda",
    )


def lightly_epochs(dataset: Dataset, pipeline: Pipeline) -> tuple[Epoch, Epoch]:
    """Build an epoch of lightly's views, and one of training.

    Args:
        dataset: The images.
        pipeline: What both sides do.

    Returns:
        Both.
    """
    from lightly.loss import NTXentLoss  # pyright: ignore[reportMissingImports]

    loader, device = lightly_loader(dataset, pipeline), pipeline.device
    model, criterion = network(pipeline).train(), NTXentLoss(temperature=TEMPERATURE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def views() -> None:
        for (first, second), _, _ in loader:
            for view in (first, second):
                view.to(device, non_blocking=True)

    def steps() -> None:
        for (first, second), _, _ in loader:
            first, second = first.to(device), second.to(device)
            loss = criterion(model(first), model(second))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return views, steps


def own_epochs(dataset: Dataset, pipeline: Pipeline) -> tuple[Epoch, Epoch]:
    """Build an epoch of this toolkit's views, and one of training.

    Args:
        dataset: The images.
        pipeline: What both sides do.

    Returns:
        Both.
    """
    recipe = TrainRecipe(
        loss=f"simclr:temperature={TEMPERATURE}",
        batch_size=pipeline.batch_size,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        labels=0.0,
        views=replace(COLOR_VIEWS, blur=pipeline.blur),
    )
    run = begin_training(network(pipeline), dataset, recipe, torch.device(pipeline.device))

    def batches() -> tuple[Tensor, ...]:
        order = torch.randperm(len(dataset), generator=run.generator, device=run.images.device)
        whole = len(order) // pipeline.batch_size * pipeline.batch_size
        return order[:whole].split(pipeline.batch_size)

    def views() -> None:
        for rows in batches():
            simclr_views(run.images[rows], options=run.views, generator=run.generator)

    def steps() -> None:
        for rows in batches():
            train_step(run, rows, epoch=0, rate=LEARNING_RATE)

    return views, steps


def _losses_agree(seed: int) -> tuple[bool, str]:
    from lightly.loss import NTXentLoss  # pyright: ignore[reportMissingImports]

    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randn(2, 256, 64, generator=generator, dtype=torch.float64)
    mine = float(nt_xent(pairs[0], pairs[1], temperature=TEMPERATURE))
    other = float(NTXentLoss(temperature=TEMPERATURE)(pairs[0], pairs[1]))
    gap = abs(mine / other - 1.0)
    return gap <= _CLOSE, f"NT-Xent of the same embeddings {mine:.6f} and {other:.6f}"
