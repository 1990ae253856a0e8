"""Lay a small ReLU classifier out as margins of its prediction, and bound them by linear functions.

Names and shapes: D pixels, K - 1 other classes; everything is in float64.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import UnsupportedError
from tests.nearest_point import Array

Layer = tuple[Array, Array]
TIE = 1e-11  # a margin below this share of the scores' size is a tie


@dataclass(frozen=True, eq=False)
class Problem:
    """Hold the margins of the predicted class, and what may be done to the image.

    Args:
        hidden: Weights and biases of the layers that a ReLU follows; the image enters the first.
        rows: (K - 1, width) margins as linear functions of the last hidden layer.
        offsets: (K - 1,) their constants.
        image: (D,).
        norm: 'l2' or 'linf'.
        low: (D,) least change that keeps the pixel in the box.
        high: (D,) largest such change.
        tie: A margin up to this counts as 0.
    """

    hidden: tuple[Layer, ...]
    rows: Array
    offsets: Array
    image: Array
    norm: Norm
    low: Array
    high: Array
    tie: float


def problem_of(
    classifier: Classifier, image: Tensor, norm: Norm, box: tuple[float, float] | None
) -> Problem:
    """Lay a classifier out; one that is not a chain of Flatten, Linear and ReLU is refused."""
    affine = classifier.affine_head
    if affine is None or (classifier.normalizes and bool(affine[1].any())):
        raise UnsupportedError("the exact radius needs prototypes, or scores without the sphere")
    layers = _layers(classifier)
    point = image.detach().double().reshape(-1).numpy()
    weight, bias = (part.detach().double().numpy() for part in affine)
    hidden, (last, shift) = tuple(layers[:-1]), layers[-1]
    weight, bias = weight @ last, weight @ shift + bias
    value = point
    for matrix, offset in hidden:
        value = np.maximum(matrix @ value + offset, 0.0)
    scores = weight @ value + bias
    top = int(scores.argmax())
    rows, offsets = (np.delete(part[top] - part, top, axis=0) for part in (weight, bias))
    low, high = box or (-np.inf, np.inf)
    size = float(np.abs(weight).max() * np.abs(value).max() + np.abs(scores).max())
    return Problem(hidden, rows, offsets, point, norm, low - point, high - point, TIE * size)


def _layers(classifier: Classifier) -> list[Layer]:
    # Affine layers with a ReLU between each two; the input normalization is the first one.
    encoder = classifier.encoder
    shape = encoder.image_shape
    scale = (1.0 / encoder.std.double()).expand(1, *shape).reshape(-1).numpy()
    shift = (-encoder.mean.double()).expand(1, *shape).reshape(-1).numpy() * scale
    layers: list[Layer] = [(np.diag(scale), shift)]
    backbone = encoder.backbone
    if not isinstance(backbone, nn.Sequential):
        raise UnsupportedError(f"{type(backbone).__name__} is not an nn.Sequential")
    for part in backbone:
        before, offset = layers[-1]
        if type(part) is nn.Linear:
            matrix = part.weight.detach().double().numpy()
            own = 0.0 if part.bias is None else part.bias.detach().double().numpy()
            layers[-1] = (matrix @ before, matrix @ offset + own)
        elif type(part) is nn.ReLU:
            layers.append((np.eye(len(before)), np.zeros(len(before))))
        elif type(part) is not nn.Flatten:
            raise UnsupportedError(f"{type(part).__name__} has no exact radius here")
    return layers


def activations(problem: Problem, point: Array) -> list[Array]:
    """Return what enters each ReLU."""
    values, inner = [], point
    for matrix, offset in problem.hidden:
        values.append(matrix @ inner + offset)
        inner = np.maximum(values[-1], 0.0)
    return values


def margins(problem: Problem, point: Array) -> Array:
    """Return the lead of the predicted class over each other class."""
    values = activations(problem, point)
    last = np.maximum(values[-1], 0.0) if values else point
    return problem.rows @ last + problem.offsets


def below(
    rows: Array, offsets: Array, layers: tuple[Layer, ...], relaxed: list[Array]
) -> tuple[Array, Array]:
    """Bound rows @ relu(z) + offsets from below by linear functions of the image.

    `layers` lead to z; `relaxed` has for each of them what `relax` returns.
    """
    steps = zip(reversed(layers), reversed(relaxed), strict=True)
    for (matrix, bias), (slope, above, shift) in steps:
        positive, negative = np.maximum(rows, 0.0), np.minimum(rows, 0.0)
        offsets = offsets + negative @ shift
        rows = positive * slope + negative * above
        offsets = offsets + rows @ bias
        rows = rows @ matrix
    return rows, offsets


def relax(low: Array, high: Array, slope: Array) -> Array:
    """Return (3, width): slope x z <= relu(z) <= above x z + shift for z between low and high.

    The given slope, between 0 and 1, serves where the phase is open.
    """
    is_open = (low < 0) & (high > 0)
    above = np.where(is_open, high / np.where(is_open, high - low, 1.0), high > 0)
    return np.stack([np.where(is_open, slope, above), above, np.where(is_open, -above * low, 0.0)])


def _least(problem: Problem, rows: Array, offsets: Array, radius: float) -> Array:
    # The least value of rows @ x + offsets within the radius and the box.
    center = rows @ problem.image + offsets
    order = 2 if problem.norm == "l2" else 1
    ball = -np.linalg.norm(rows, order, axis=-1) * radius
    low, high = np.maximum(problem.low, -radius), np.minimum(problem.high, radius)
    cube = np.maximum(rows, 0.0) @ low + np.minimum(rows, 0.0) @ high
    return center + np.maximum(ball, cube)


def ranges_of(
    problem: Problem, phases: tuple[Array, ...], radius: float
) -> list[tuple[Array, Array]]:
    """Bound what enters each ReLU, within the radius and where the phases are as fixed."""
    ranges: list[tuple[Array, Array]] = []
    relaxed: list[Array] = []
    for depth, (matrix, bias) in enumerate(problem.hidden):
        inner = problem.hidden[:depth]
        low = _least(problem, *below(matrix, bias, inner, relaxed), radius)
        high = -_least(problem, *below(-matrix, -bias, inner, relaxed), radius)
        low = np.where(phases[depth] > 0, np.maximum(low, 0.0), low)
        high = np.where(phases[depth] < 0, np.minimum(high, 0.0), high)
        ranges.append((low, high))
        relaxed.append(relax(low, high, (high > -low).astype(float)))
    return ranges
