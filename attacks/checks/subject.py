"""Hold the model that is checked, and say what was found."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcl.attacks.forward_passes import generators_seeded
from robustcl.core.classifier import Classifier
from robustcl.core.modules import exact_copy
from robustcl.core.objectives import Objective, score_margin
from robustcl.core.seeds import example_noise, example_seed
from robustcl.core.threat import Threat


@dataclass(frozen=True)
class Flag:
    """Warn of a model on which the numbers of plain attacks should not be trusted.

    Args:
        name: What was found, as in 'zero_gradient'; one of `NAMES`.
        sentence: What was seen and what to do, for people.
        images: Positions of the images on which it shows, ascending; none where it concerns the
            model as a whole.
        rule: Number of the evaluation rule behind it.
    """

    name: str
    sentence: str
    images: tuple[int, ...]
    rule: int


NAMES = (
    "test_time_optimization",
    "randomized",
    "softmax_scores",
    "zero_gradient",
    "quantized_input",
    "gradient_masking",
    "planted",
)


_STEP = 1.0 / 255.0  # the widest cell of an 8-bit image


@dataclass(frozen=True, eq=False)
class Subject:
    """Hold a classifier and a batch of images, on which every check looks.

    Each call runs under the same seed of the global generators, which are restored: a randomized
    model is looked at in one draw, so that its noise is not taken for anything else.

    Args:
        classifier: The model, frozen and in eval mode.
        images: (B, C, H, W) in the box.
        scores: (B, K) at the images.
        threat: The ball in which attacks are going to search.
        seeds: One per image.
    """

    classifier: Classifier
    images: Tensor
    scores: Tensor
    threat: Threat
    seeds: tuple[int, ...]

    @property
    def targets(self) -> Tensor:
        """(B,) predicted classes, which an adversary wants to be left."""
        return self.scores.argmax(dim=1)

    @property
    def objective(self) -> Objective:
        """Leaving the predicted class, as a function of B points alone."""
        return Objective(self.margin)

    def scores_at(self, points: Tensor) -> Tensor:
        """Return the scores under the fixed seed.

        Args:
            points: (B, C, H, W).

        Returns:
            (B, K).
        """
        with generators_seeded(self.seeds):
            return self.classifier(points)

    def margin(self, points: Tensor) -> Tensor:
        """Return by how much the best other class leads the predicted one, under the fixed seed.

        Args:
            points: (B, C, H, W).

        Returns:
            (B,) margins.
        """
        return score_margin(self.scores_at(points), self.targets)

    def gradient(self, points: Tensor) -> Tensor:
        """Return the gradient of the margin as autograd gives it, NaN included.

        Args:
            points: (B, C, H, W).

        Returns:
            (B, C, H, W); zero where nothing leads from the scores back to the points.
        """
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            values = self.margin(points)
            if not values.requires_grad:
                return torch.zeros_like(points)
            found = torch.autograd.grad(values.sum(), points, allow_unused=True)[0]
        return torch.zeros_like(points) if found is None else found

    def noise(self, purpose: str, *, kind: str = "normal") -> Tensor:
        """Draw noise, the same at every call of the same purpose.

        Args:
            purpose: What it is for.
            kind: 'normal' or 'uniform' in [-1, 1).

        Returns:
            (B, C, H, W).
        """
        return example_noise(
            [example_seed(seed, 0, f"checks {purpose}") for seed in self.seeds],
            self.images.shape[1:],
            kind="uniform" if kind == "uniform" else "normal",
            dtype=self.images.dtype,
            device=self.images.device,
        )

    def generic(self) -> Tensor:
        """Move every pixel inwards by a random part of 1/255.

        Images of 8 bits lie on a grid, and blank pixels on the kinks of layers without a bias. A
        generic point lies on no kink and on no edge of a cell.

        Returns:
            (B, C, H, W) points in the box [0, 1].
        """
        shift = _STEP * self.noise("generic", kind="uniform").abs()
        return self.images + torch.where(self.images < 0.5, shift, -shift)

    def exact(self) -> "Subject":
        """Copy the subject in float64.

        Returns:
            The copy; classes are those predicted in float32.
        """
        return replace(
            self,
            classifier=exact_copy(self.classifier),
            images=self.images.double(),
            scores=self.scores.double(),
        )
