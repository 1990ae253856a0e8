"""Join an encoder and a head into a classifier."""

import math
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from robustcl.errors import InputError


class Head(Protocol):
    """What a classifier asks of its head, an `nn.Module`."""

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        ...

    def affine(self) -> tuple[Tensor, Tensor] | None:
        """Return W (K, d) and b (K,) where the scores are W f + b, else None."""
        ...

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Return (B, K) scores of (B, d) embeddings."""
        ...


class Encoder(nn.Module):
    """Map images in [0, 1] to raw embeddings; the input normalization is inside.

    Args:
        backbone: Normalized images (B, C, H, W) to (B, d).
        image_shape: (C, H, W) of the images it takes.
        mean: Channel means, C numbers, or one for all channels.
        std: Channel standard deviations, likewise.

    Raises:
        InputError: When the shape, the means or the deviations are not usable.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        image_shape: Sequence[int],
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise InputError(f"image_shape {tuple(image_shape)} is not (C, H, W)")
        channels, height, width = (int(side) for side in image_shape)
        self.image_shape = (channels, height, width)
        self.backbone = backbone
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels) or not all(map(math.isfinite, values)):
                raise InputError(f"{name} {tuple(values)} is not 1 or {channels} finite numbers")
            row = torch.tensor(list(values), dtype=torch.float32).expand(channels)
            self.register_buffer(name, row.clone().view(1, -1, 1, 1))
        if min(std) <= 0:
            raise InputError(f"std {tuple(std)} is not positive")

    def forward(self, images: Tensor) -> Tensor:
        """Return raw embeddings h(x).

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, d), not normalized.
        """
        return self.backbone((images - self.mean) / self.std)


class IdentityHead(nn.Module):
    """Take the encoder's outputs for scores.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def affine(self) -> tuple[Tensor, Tensor] | None:
        """Return the identity matrix and no offset.

        Returns:
            W = I (K, K) in float64 and b = 0.
        """
        return (
            torch.eye(self.num_classes, dtype=torch.float64),
            torch.zeros(self.num_classes, dtype=torch.float64),
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the scores as they are.

        Args:
            embeddings: (B, K).

        Returns:
            The same tensor.
        """
        return embeddings


class Classifier(nn.Module):
    """Score classes by a head on embeddings.

    Args:
        encoder: Images to raw embeddings h(x).
        head: Embeddings to scores.
        class_names: K names; numbers by default.
        normalizes: Whether the head sees h / |h|, the point on the unit sphere, or h itself.

    Raises:
        InputError: When there are names for another number of classes.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Module,
        *,
        class_names: Sequence[str] = (),
        normalizes: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.normalizes = normalizes
        self.class_names = tuple(class_names) or tuple(str(k) for k in range(self.num_classes))
        if len(self.class_names) != self.num_classes:
            raise InputError(
                f"{len(self.class_names)} class names for {self.num_classes} classes; give one each"
            )

    @classmethod
    def from_scores(
        cls,
        module: nn.Module,
        *,
        image_shape: Sequence[int],
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        class_names: Sequence[str] = (),
    ) -> "Classifier":
        """Wrap any network that outputs class scores.

        The scores are taken as they are: no normalization to the sphere, and an identity head.
        The network is called once, on a gray image in eval mode, to count its classes.

        Args:
            module: Normalized images (B, C, H, W) to scores (B, K).
            image_shape: (C, H, W).
            mean: Channel means of the input normalization; 0 where the network has its own.
            std: Channel standard deviations, likewise 1.
            class_names: K names; numbers by default.

        Returns:
            The classifier, which holds the network itself, not a copy.

        Raises:
            InputError: When the network's output is not (B, K) with K >= 2.
        """
        encoder = Encoder(module, image_shape=image_shape, mean=mean, std=std)
        parameter = next(module.parameters(), torch.zeros(()))
        gray = torch.full((2, *encoder.image_shape), 0.5)
        modes = [(part, part.training) for part in module.modules()]
        try:
            with torch.no_grad():
                scores = encoder.to(parameter.device).eval()(gray.to(parameter))
        finally:
            for part, training in modes:
                part.training = training
            encoder.training = module.training
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise InputError(f"the network gives {tuple(scores.shape)} for 2 images, not (2, K)")
        head = IdentityHead(scores.shape[1])
        wrapped = cls(encoder, head, class_names=class_names, normalizes=False)
        wrapped.training = module.training
        return wrapped

    @property
    def affine_head(self) -> tuple[Tensor, Tensor] | None:
        """W (K, d) and b (K,) of a head whose scores are W f + b; None for other heads."""
        return cast(Head, self.head).affine()

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return cast(Head, self.head).num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return self.encoder.image_shape

    @property
    def evaluations(self) -> int:
        """Passes through the network per image and call; more than one with several views."""
        return 1

    def raw_embeddings(self, images: Tensor) -> Tensor:
        """Return h(x), not normalized.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, d).

        Raises:
            InputError: When the images are of another shape than the encoder takes.
        """
        if tuple(images.shape[1:]) != self.image_shape:
            raise InputError(
                f"images of shape {tuple(images.shape[1:])} (C, H, W) but the encoder takes "
                f"{self.image_shape}; resize, or convert with --input-size"
            )
        return self.encoder(images)

    def embeddings(self, images: Tensor) -> Tensor:
        """Return what the head sees: h / |h| on the unit sphere, or h when not normalizing.

        h is divided by its exact norm, without an epsilon; h = 0 gives NaN scores, which no
        certificate covers and no attack is credited with.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, d).
        """
        raw = self.raw_embeddings(images)
        if not self.normalizes:
            return raw
        return raw / torch.linalg.vector_norm(raw, dim=1, keepdim=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, K); the predicted class has the highest.
        """
        return self.head(self.embeddings(images))

    def scores(self, images: Tensor) -> Tensor:
        """Return class scores; the same as calling the classifier.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, K).
        """
        return self(images)
