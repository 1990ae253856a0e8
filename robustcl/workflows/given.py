"""Take models and data as callers in Python have them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)
from torch.utils.data import Dataset as TorchDataset

from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError
from robustcl.data.dataset import Dataset
from robustcl.data.loading import draw_images, list_data
from robustcl.data.splits import draw_order
from robustcl.data.transform import ImageTransform
from robustcl.models.sources.opening import open_model
from robustcl.models.sources.request import ImageShape

Images = Tensor | np.ndarray
Data = str | Path | Dataset | TorchDataset | DataLoader | tuple[Images, Images | Sequence[int]]


class _Program(nn.Module):
    # An exported program, which is in the mode in which it was exported and refuses another.

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> "_Program":
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Tensor:
        return self.program(images)


class _OneOutput(nn.Module):
    # One of several things that a network returns.

    def __init__(self, network: nn.Module, output: str | int) -> None:
        super().__init__()
        self.network = network
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        found = self.network(images)
        try:
            return found[self.output] if not isinstance(self.output, str) or isinstance(
                found, Mapping) else getattr(found, self.output)  # fmt: skip
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            kind = type(found).__name__
            raise InputError(f"the network returns a {kind} without {self.output!r}") from error


def given_model(
    model: nn.Module | ExportedProgram | str | Path, output: str | int | None
) -> tuple[nn.Module, ImageTransform | None]:
    """Take a model as the caller has it.

    Args:
        model: A classifier, a network, a program, or where a model lies.
        output: Of a network that returns several things, the key, name or position of its scores.

    Returns:
        A classifier, or a module that puts out scores; and how its own files bring images to its
        size, where they say so.

    Raises:
        InputError: When it has no classes.
    """
    if isinstance(model, ExportedProgram):
        model = _Program(model.module())
    if isinstance(model, nn.Module):
        if isinstance(model, Encoder):
            raise InputError("an encoder has no classes; fit a head first: robustcl.fit_head")
        return (model if output is None else _OneOutput(model, output)), None
    found = open_model(model)
    if found.classifier is None:
        raise InputError(f"{str(model)!r} has no head; fit one first: robustcl.fit_head")
    return found.classifier, found.transform


@dataclass(frozen=True, eq=False)
class GivenData:
    """Hold images that the caller has, before they are read.

    Args:
        count: How many there are.
        image_shape: (C, H, W).
        take: Reads the images; given a number, so many of them, in a random order of which every
            beginning has the same share of every class, as far as labels are known before.
    """

    count: int
    image_shape: ImageShape
    take: Callable[[int | None], Dataset]


def given_data(
    data: Data,
    *,
    split: str = "test",
    seed: int = 0,
    classes: Sequence[str] | None = None,
    transform: ImageTransform | None = None,
) -> GivenData:
    """Take data as the caller has it.

    Args:
        data: A source as on the command line, a data set, a torch `Dataset` or `DataLoader`, or
            images with labels.
        split: Of a source, 'train' or 'test'.
        seed: Of the order.
        classes: The class names of the model, for a source.
        transform: How the model's own files bring images to its size, for a source.

    Returns:
        The data.

    Raises:
        InputError: When it is not usable.
    """
    if isinstance(data, str | Path):
        listing = list_data(str(data), split=split, seed=seed, classes=classes, transform=transform)
        if not len(listing.usable):
            raise InputError(f"{listing.name!r} has no image of the model's classes")
        return GivenData(
            len(listing.usable),
            listing.dataset(listing.usable[:1]).image_shape,
            lambda limit: draw_images(listing, limit=limit, seed=seed),
        )
    if isinstance(data, DataLoader | TorchDataset):
        return _of_torch(data, seed)
    held = data if isinstance(data, Dataset) else _of_arrays(*data)
    return GivenData(len(held), held.image_shape, lambda limit: _drawn(held, limit, seed))


def _drawn(held: Dataset, limit: int | None, seed: int) -> Dataset:
    return held if limit is None else held.select(draw_order(held.labels, seed=seed)[:limit])


def _of_arrays(images: Images, labels: Images | Sequence[int]) -> Dataset:
    pixels, known = (torch.as_tensor(part).detach().cpu() for part in (images, labels))
    if pixels.ndim != 4:
        raise InputError(f"images of shape {tuple(pixels.shape)} are not (N, C, H, W)")
    small = pixels.dtype in (torch.bfloat16, torch.float16)
    pixels = pixels.float() if small else pixels
    return Dataset("images", pixels.numpy().transpose(0, 2, 3, 1), known.numpy())


def _of_torch(data: DataLoader | TorchDataset, seed: int) -> GivenData:
    # Items that can be asked for by position are read when they are wanted, and no others; what
    # only comes one after the other is read as a whole.
    source = data.dataset if isinstance(data, DataLoader) else data
    name, names = type(source).__name__, _names(source)
    if not _by_position(data, source):
        batched = isinstance(data, DataLoader)
        pairs = [pair for item in data for pair in _pairs(item, batched=batched)]
        held = _stacked(name, names, pairs)
        return GivenData(len(held), held.image_shape, lambda limit: _drawn(held, limit, seed))
    count = len(source)  # pyright: ignore[reportArgumentType]
    if not count:
        raise InputError("the data gives no image")

    def items(rows: Iterable[int]) -> list[tuple[Tensor, Tensor]]:
        return [pair for row in rows for pair in _pairs(source[row], batched=False)]

    def take(limit: int | None) -> Dataset:
        if limit is None:
            return _stacked(name, names, items(range(count)))
        order = draw_order(_labels(source, count), seed=seed)[:limit]
        return _stacked(name, names, items(order.tolist()))

    return GivenData(count, _stacked(name, names, items([0])).image_shape, take)


def _by_position(data: DataLoader | TorchDataset, source: TorchDataset) -> bool:
    if isinstance(source, IterableDataset) or not hasattr(source, "__len__"):
        return False
    if not isinstance(data, DataLoader):
        return True
    # A loader that draws other rows, or makes something else of them, is asked itself.
    whole = isinstance(data.sampler, SequentialSampler | RandomSampler) and not data.drop_last
    return whole and data.collate_fn is default_collate and data.batch_size is not None


def _labels(source: TorchDataset, count: int) -> np.ndarray:
    # As torchvision's data sets state them; of one value where nothing is known.
    for name in ("targets", "labels"):
        try:
            found = np.asarray(getattr(source, name, None))
        except (TypeError, ValueError, RuntimeError):
            continue
        if found.shape == (count,) and found.dtype.kind in "iu" and int(found.min()) >= 0:
            return found
    return np.zeros(count, dtype=np.int64)


def _names(source: TorchDataset) -> tuple[str, ...]:
    names = getattr(source, "classes", ()) or ()
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _pairs(item: object, *, batched: bool) -> list[tuple[Tensor, Tensor]]:
    # Images with their labels: of a batch of (images, labels), or of one (image, label).
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise InputError(
            f"the data gives a {type(item).__name__}, not images with labels; wrap it to return "
            "(images, labels)"
        )
    pixels = item[0] if isinstance(item[0], Tensor) else torch.as_tensor(np.asarray(item[0]))
    known = torch.as_tensor(item[1])
    if batched:
        return list(zip(pixels, known.reshape(-1), strict=True))
    return [(pixels, known.reshape(()))]


def _stacked(name: str, names: tuple[str, ...], pairs: Sequence[tuple[Tensor, Tensor]]) -> Dataset:
    if not pairs:
        raise InputError("the data gives no image")
    images, labels = zip(*pairs, strict=True)
    shapes = {tuple(one.shape) for one in images}
    if len(shapes) > 1 or len(next(iter(shapes))) != 3:
        raise InputError(
            f"the data gives images of shapes {sorted(shapes)[:3]}; give tensors (C, H, W) of one "
            "size, as of ToTensor(), without normalization"
        )
    stacked = torch.stack([one if one.dtype == torch.uint8 else one.float() for one in images])
    pixels = stacked.numpy().transpose(0, 2, 3, 1)
    return Dataset(name, pixels, torch.stack(labels).long().numpy(), names)
