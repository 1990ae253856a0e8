"""Join an encoder and a head into a classifier."""

import math
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from robustcl.core.abstention import on_sphere
from robustcl.core.checks import (
    check_form,
    check_network,
    check_outputs,
    weight_device,
    weight_type,
)
from robustcl.core.errors import InputError
from robustcl.core.memory import is_out_of_memory
from robustcl.core.modules import unchanged

_REASON = 160  # signs of a network's own error in a message


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

    Means and deviations are kept in the type of the network's weights, and images are converted to
    it: a half-precision network sees half-precision images.

    Args:
        backbone: Normalized images (B, C, H, W) to (B, d).
        image_shape: (C, H, W) of the images it takes.
        mean: Channel means, C numbers, or one for all channels.
        std: Channel standard deviations, likewise.

    Raises:
        InputError: When the shape, the means or the deviations are not usable, or the network is
            not (see `check_network`).
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
        check_network(backbone)
        self.image_shape = _image_shape(image_shape)
        self.backbone = backbone
        with torch.inference_mode(False):
            place, kind = weight_device(backbone), weight_type(backbone) or torch.float32
            for name, values in (("mean", mean), ("std", std)):
                row = _per_channel(name, values, self.image_shape[0])
                self.register_buffer(name, row.to(place, kind).view(1, -1, 1, 1))
        if not bool((self.std > 0).all()):
            raise InputError(f"std {std} is not positive as {kind}; use positive deviations")

    def forward(self, images: Tensor) -> Tensor:
        """Return raw embeddings h(x).

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, d), not normalized.

        Raises:
            InputError: When the network returns something else, or its weights were converted to
                another type than the encoder's, or moved or converted in `torch.inference_mode`
                while a gradient is wanted.
        """
        kind, own = self.mean.dtype, weight_type(self.backbone)
        if own not in (None, kind):
            raise InputError(
                f"the network's weights are {own} but its encoder is {kind}; convert the encoder "
                "or classifier as a whole, as in classifier.to(torch.float16)"
            )
        points = images if images.dtype == kind else images.to(kind)
        if self.mean.is_inference() and points.requires_grad:
            raise InputError(
                "the network was moved or converted in torch.inference_mode, so no gradient can "
                "pass; do that outside of it"
            )
        return check_outputs(self.backbone((points - self.mean) / self.std), images.shape[0])


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
        InputError: When there are names for another number of classes, or the head is not usable
            (see `check_network`).
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
        check_network(head, what="head")
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
        The network is called once, on two gray images in eval mode, to count its classes, and left
        as it was. Networks in float16, bfloat16 and float64 are taken as they are.

        Args:
            module: Normalized images (B, C, H, W) to scores (B, K).
            image_shape: (C, H, W).
            mean: Channel means of the input normalization; 0 where the network has its own.
            std: Channel standard deviations, likewise 1.
            class_names: K names; numbers by default.

        Returns:
            The classifier, which holds the network itself, not a copy.

        Raises:
            InputError: When the network is not usable (see `check_network`), fails on gray images,
                or its output is not one floating-point tensor (B, K) with K >= 2.
        """
        encoder = Encoder(module, image_shape=image_shape, mean=mean, std=std)
        encoder.training = module.training
        head = IdentityHead(_count_classes(encoder))
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
            InputError: When the images are of another type or shape than the encoder takes.
        """
        check_form(images, self.image_shape)
        return self.encoder(images)

    def embeddings(self, images: Tensor) -> Tensor:
        """Return what the head sees: h / |h| on the unit sphere, or h when not normalizing.

        h is divided by its exact norm, without an epsilon. Where |h| is 0 or infinite in the
        network's type, scores are NaN, which no certificate covers and no attack is credited with.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, d).
        """
        raw = self.raw_embeddings(images)
        if not self.normalizes:
            return raw
        return on_sphere(raw)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, K); the predicted class has the highest.
        """
        return check_outputs(self.head(self.embeddings(images)), images.shape[0])

    def scores(self, images: Tensor) -> Tensor:
        """Return class scores; the same as calling the classifier.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, K).
        """
        return self(images)


def _image_shape(sides: Sequence[int]) -> tuple[int, int, int]:
    try:
        channels, height, width = (int(side) for side in sides)
        if min(channels, height, width) < 1 or (channels, height, width) != tuple(sides):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise InputError(
            f"image_shape {sides!r} is not (C, H, W), three whole numbers; write (3, 32, 32)"
        ) from error
    return channels, height, width


def _per_channel(name: str, values: Sequence[float], channels: int) -> Tensor:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, channels) or not all(map(math.isfinite, numbers)):
        raise InputError(
            f"{name} {values!r} is not 1 or {channels} finite numbers; write one per channel"
        )
    return torch.tensor(numbers, dtype=torch.float64).expand(channels).clone()


def _count_classes(encoder: Encoder) -> int:
    gray = torch.full((2, *encoder.image_shape), 0.5)
    with unchanged(encoder.backbone), torch.inference_mode(False), torch.no_grad():
        try:
            encoder.backbone.eval()
            scores = encoder(gray.to(encoder.mean))
        except InputError:
            raise
        except Exception as error:  # of the network's own code
            if is_out_of_memory(error):
                raise
            raise InputError(
                f"the network fails on gray images {tuple(gray.shape)} of {encoder.mean.dtype}: "
                f"{_reason(error)}; mend image_shape or the network, or try network.float()"
            ) from error
    if scores.shape[1] < 2:
        raise InputError(
            f"the network gives {tuple(scores.shape)} for 2 images, one score for all classes; wrap"
            " it to return (B, K), for two classes torch.cat([-score, score], 1)"
        )
    return scores.shape[1]


def _reason(error: Exception) -> str:
    # TorchScript says what went wrong last, all others first.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    line = lines[-1] if "TorchScript" in lines[0] else f"{type(error).__name__}: {lines[0]}"
    return line if len(line) <= _REASON else f"{line[:_REASON]}..."
