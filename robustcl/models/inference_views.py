"""Views of an image for inference: shifts, crops, noise, training views."""

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from robustcl.core.choices import Aggregate
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.seeds import example_noise, example_seed
from robustcl.core.specification import Specification, check_options, choose, parse_specification
from robustcl.data.views.options import ViewOptions
from robustcl.data.views.simclr import random_boxes
from robustcl.data.views.training_view import TrainingView
from robustcl.models.multi_view import MultiView


class LinearView(nn.Module):
    """Map every image by one matrix along its columns and one along its rows, plus an offset.

    Flips, shifts, resized crops and fixed noise are of this form; the norm of the map is the
    product of the matrices' norms, whatever the offset.

    Args:
        rows: (H, H) matrix R that mixes the rows of the image; None for the identity.
        columns: (W, W) matrix C that mixes its columns; None for the identity.
        offset: (C, H, W) added at the end; None for none.

    Raises:
        InputError: When a matrix is not square, so that the view would change the image's size.
    """

    rows: Tensor | None
    columns: Tensor | None
    offset: Tensor | None

    def __init__(
        self,
        rows: Tensor | None = None,
        columns: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> None:
        super().__init__()
        for name, matrix in (("rows", rows), ("columns", columns)):
            if matrix is not None and (matrix.ndim != 2 or len(matrix) != matrix.shape[1]):
                raise InputError(
                    f"{name} of shape {tuple(matrix.shape)} change the image's size; a view keeps "
                    "it, so give a square matrix"
                )
        for name, tensor in (("rows", rows), ("columns", columns), ("offset", offset)):
            kept = None if tensor is None else tensor.detach().float().clone()
            self.register_buffer(name, kept)

    def forward(self, images: Tensor) -> Tensor:
        """Return R x C^T + offset.

        Args:
            images: (B, C, H, W).

        Returns:
            (B, C, H, W); the images themselves where the view is the identity.
        """
        if self.columns is not None:
            images = images @ self.columns.to(images.dtype).T
        if self.rows is not None:
            images = self.rows.to(images.dtype) @ images
        return images if self.offset is None else images + self.offset.to(images.dtype)


def shifted(size: int, by: int, *, flipped: bool = False) -> Tensor:
    """Make the matrix that shifts an axis and fills up with zeros.

    Args:
        size: Length of the axis.
        by: Pixels towards higher positions, negative for lower.
        flipped: Whether the axis is reversed first.

    Returns:
        (size, size) with at most one 1 in every row and column.
    """
    matrix = torch.diag(torch.ones(size - min(abs(by), size)), -by) if by else torch.eye(size)
    return matrix.flip(1) if flipped else matrix


def resized(size: int, start: int, length: int, *, flipped: bool = False) -> Tensor:
    """Make the matrix that cuts a piece out of an axis and stretches it bilinearly to the full one.

    Sampling stops at the edge of the piece, as in `resized_crop`.

    Args:
        size: Length of the axis.
        start: First pixel of the piece.
        length: Its pixels.
        flipped: Whether the axis is reversed first.

    Returns:
        (size, size); every row has at most two entries, which sum to 1.
    """
    position = (torch.arange(size, dtype=torch.float64) + 0.5) * length / size - 0.5
    position = position.clamp(0.0, length - 1.0)
    low = position.floor().clamp(max=max(length - 2, 0))
    share = position - low
    index = low.long() + start
    matrix = torch.zeros(size, size, dtype=torch.float64)
    row = torch.arange(size)
    matrix[row, index] += 1.0 - share
    matrix[row, (index + 1).clamp(max=start + length - 1)] += share
    matrix = matrix.float()
    return matrix.flip(1) if flipped else matrix


_Shape = Sequence[int]
_MOST = 1024


def shift_views(
    count: int, *, image_shape: _Shape, seed: int = 0, pixels: int = 2, flip: bool = True
) -> list[nn.Module]:
    """Draw flips and shifts, each once; zeros come in at the edge.

    Args:
        count: Views; the first is the image itself, the second its mirror image if there are flips.
        image_shape: (C, H, W).
        seed: Seed of the order in which the others come.
        pixels: Largest shift along either axis.
        flip: Whether there are horizontal flips.

    Returns:
        The views; fewer views are the first of more.

    Raises:
        InputError: When there are not as many, or a shift leaves nothing of the image.
    """
    _, height, width = image_shape
    if not 0 <= pixels < min(height, width):
        raise InputError(f"pixels {pixels} leaves nothing of images of {width}x{height}")
    steps = range(-pixels, pixels + 1)
    moves = [move for move in product(steps, steps, (False, True)[: 1 + flip]) if any(move)]
    generator = torch.Generator().manual_seed(example_seed(seed, 0, "shift views"))
    order = torch.randperm(len(moves), generator=generator).tolist()
    first = [(0, 0, True)] if flip else []
    moves = [(0, 0, False), *first, *(moves[k] for k in order if moves[k] not in first)]
    if count > len(moves):
        raise InputError(f"there are only {len(moves)} flips and shifts, not {count}; raise pixels")
    return [
        LinearView(
            shifted(height, down) if down else None,
            shifted(width, right, flipped=mirrored) if right or mirrored else None,
        )
        for down, right, mirrored in moves[:count]
    ]


def crop_views(
    count: int, *, image_shape: _Shape, seed: int = 0, scale: float = 0.6, flip: bool = True
) -> list[nn.Module]:
    """Draw resized crops as SimCLR does, with fixed boxes.

    Args:
        count: Views; the first is the image itself.
        image_shape: (C, H, W).
        seed: Seed of the boxes.
        scale: Least share of the area, in (0, 1].
        flip: Whether half of them are mirrored.

    Returns:
        The views; fewer views are the first of more.
    """
    _, height, width = image_shape
    options = ViewOptions(crop_scale=(scale, 1.0))
    blank = torch.zeros(1, *image_shape)
    views: list[nn.Module] = [LinearView()]
    for number in range(1, count):
        generator = torch.Generator().manual_seed(example_seed(seed, number, "crop views"))
        boxes = random_boxes(blank, options, generator)
        top, left, rows, columns = (int(part) for part in boxes)
        mirrored = flip and float(torch.rand((), generator=generator)) < 0.5
        views.append(
            LinearView(resized(height, top, rows), resized(width, left, columns, flipped=mirrored))
        )
    return views


def noise_views(
    count: int, *, image_shape: _Shape, seed: int = 0, sigma: float = 0.25
) -> list[nn.Module]:
    """Draw fixed patterns of Gaussian noise, the same for all images, not clipped to [0, 1].

    The model with fresh noise at every call is the smoothed model that `smoothing` certifies; with
    fixed patterns it is a deterministic one, which an attacker can know.

    Args:
        count: Views, all of them noisy.
        image_shape: (C, H, W).
        seed: Seed of the noise.
        sigma: Standard deviation in pixel units.

    Returns:
        The views; fewer views are the first of more.

    Raises:
        InputError: When sigma is not positive.
    """
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma {sigma} is not positive and finite; try 0.25")
    seeds = [example_seed(seed, number, "noise views") for number in range(count)]
    return [LinearView(offset=sigma * noise) for noise in example_noise(seeds, image_shape)]


def training_views(
    count: int, *, options: ViewOptions, image_shape: _Shape, seed: int = 0
) -> list[nn.Module]:
    """Draw the views that the encoder was trained on, with fixed parameters.

    Args:
        count: Views; the first is the image itself.
        options: How they were drawn.
        image_shape: (C, H, W); not needed, as for all families.
        seed: Seed of the draws.

    Returns:
        The views; fewer views are the first of more.
    """
    del image_shape
    seeds = [example_seed(seed, number, "training views") for number in range(1, count)]
    return [LinearView(), *(TrainingView(options, own) for own in seeds)]


FAMILIES: dict[str, Callable[..., list[nn.Module]]] = {
    "shift": shift_views,
    "crop": crop_views,
    "noise": noise_views,
    "training": training_views,
}
_SUPPLIED = ("image_shape", "seed", "options")


def parse_views(text: str) -> Specification:
    """Read a family such as 'shift:pixels=2,flip=false' or 'noise:sigma=0.25'.

    A name that is unknown, or an option that the family does not take, is refused.

    Args:
        text: NAME or NAME:key=value,key=value.

    Returns:
        The specification.
    """
    specification = parse_specification(text)
    family = FAMILIES[choose(specification.name, FAMILIES, what="family of views")]
    check_options(specification, family, exclude=_SUPPLIED)
    return specification


def draw_views(
    text: str,
    count: int,
    *,
    image_shape: _Shape,
    seed: int = 0,
    training: ViewOptions | None = None,
) -> list[nn.Module]:
    """Draw fixed views of a family.

    All images get the same views, so that what an image gets depends on the seed alone, not on its
    place or on the batch size. Fewer views are the first of more.

    Args:
        text: shift, crop, noise or training, with options.
        count: Number of views.
        image_shape: (C, H, W).
        seed: Seed of the draws.
        training: How the encoder's training views were drawn, for 'training'.

    Returns:
        The views.

    Raises:
        InputError: When there are no views, too many, or the family is unknown or not known of
            the encoder.
    """
    specification = parse_views(text)
    if not 1 <= count <= _MOST:
        raise InputError(f"{count} views; use 1 to {_MOST}")
    options = dict(specification.options)
    if specification.name == "training":
        if training is None:
            raise InputError(
                "it is not known how the encoder's views were drawn; use shift or crop"
            )
        return training_views(count, options=training, image_shape=image_shape, seed=seed)
    return FAMILIES[specification.name](count, image_shape=image_shape, seed=seed, **options)


class RandomViews(Classifier):
    """Draw views from torch's default generator at every call, the same for the whole batch.

    A randomized model: attack `attacks.expectation` of it, and judge by fresh draws. As one draw
    serves the whole batch, what an image gets depends on the call, not on its place or on the
    batch. `MultiView` is the deterministic model of one draw.

    Args:
        classifier: The classifier of one view.
        family: As in `draw_views`.
        count: Views per call.
        aggregate: As in `MultiView`.
        temperature: As in `MultiView`.
        training: How the encoder's training views were drawn, for 'training'.
    """

    def __init__(
        self,
        classifier: Classifier,
        family: str,
        count: int,
        aggregate: Aggregate = "score",
        *,
        temperature: float = 1.0,
        training: ViewOptions | None = None,
    ) -> None:
        super().__init__(
            classifier.encoder,
            classifier.head,
            class_names=classifier.class_names,
            normalizes=classifier.normalizes,
        )
        if isinstance(classifier, MultiView | RandomViews):
            raise InputError("the classifier is multi-view already; give that of one view")
        self.single, self.family, self.count = classifier, family, count
        self.aggregate: Aggregate = aggregate
        self.temperature = temperature
        self.options = training
        self.training = classifier.training
        self.drawn(0)  # a mistake is said at once

    @property
    def affine_head(self) -> None:
        """None: the scores are no function of one embedding."""
        return

    @property
    def evaluations(self) -> int:
        """Passes through the network per image and call."""
        return self.count * self.single.evaluations

    def drawn(self, seed: int) -> MultiView:
        """Return the deterministic model of one draw.

        Args:
            seed: Seed of the draw.

        Returns:
            The model.
        """
        views = draw_views(self.family, self.count, image_shape=self.image_shape, seed=seed,
                           training=self.options)  # fmt: skip
        return MultiView(self.single, views, self.aggregate, temperature=self.temperature)

    def _now(self) -> MultiView:
        return self.drawn(int(torch.randint(2**31, ())))

    def raw_embeddings(self, images: Tensor) -> Tensor:
        """Return those of a fresh draw.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, d).
        """
        return self._now().raw_embeddings(images)

    def embeddings(self, images: Tensor) -> Tensor:
        """Return those of a fresh draw.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, d).
        """
        return self._now().embeddings(images)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores of a fresh draw.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, K).
        """
        return self._now()(images)
