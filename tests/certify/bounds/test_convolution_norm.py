"""Every convolution bound against the singular values of the materialized operator."""

import pytest
import torch
from torch import nn

from robustcl.certify.bounds import layer_lipschitz_bound

CASES = [  # kernel, padding, stride, dilation, groups
    (3, 1, 1, 1, 1),
    (3, 0, 2, 1, 1),
    (2, 0, 2, 1, 1),
    (4, 1, 2, 1, 2),
    (3, 2, 1, 2, 1),
    (2, 1, 1, 3, 2),
    (5, 2, 1, 1, 1),
    (1, 0, 1, 1, 1),
    (3, 1, 2, 1, 1),
    (4, 1, 3, 1, 1),
    (3, "same", 1, 2, 1),
    (4, "same", 1, 1, 1),
]


def operator(layer: nn.Module, shape: tuple[int, int, int]) -> torch.Tensor:
    size = shape[0] * shape[1] * shape[2]
    return layer(torch.eye(size, dtype=torch.float64).view(-1, *shape)).flatten(1).detach()


def is_upper_bound(value: float, matrix: torch.Tensor) -> bool:
    return value >= float(torch.linalg.matrix_norm(matrix, 2))


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize("kernel, padding, stride, dilation, groups", CASES)
def test_bounds_the_operator(mode, kernel, padding, stride, dilation, groups) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(
        4, 6, kernel, stride, padding, dilation, groups, bias=False, padding_mode=mode
    ).double()
    matrix = operator(layer, (4, 7, 7))
    bound = layer_lipschitz_bound(layer, (4, 7, 7), norm="l2")
    assert is_upper_bound(bound, matrix)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert bound <= exact * (1.3 if mode == "zeros" else 4.0)
    widest = float(matrix.abs().sum(0).max())
    assert widest <= layer_lipschitz_bound(layer, (4, 7, 7), norm="linf") * (1 + 1e-12)


@pytest.mark.parametrize(
    "taps, padding, dilation",
    [
        ([-1.0, 2.0, -1.0], 1, 1),
        ([1.0, -4.0, 6.0, -4.0, 1.0], 2, 1),
        ([1.0, -1.0], "same", 1),
        ([-1.0, 3.0, -3.0, 1.0], "same", 1),
        ([-1.0, 2.0, -1.0], 2, 2),
    ],
)
@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_frequencies_between_those_of_the_image_count(n, taps, padding, dilation) -> None:
    # The symbol of alternating taps peaks at the highest frequency, which a grid of n points leaves
    # out where n is odd: for the first kernel it gives 9 at n = 3, and the norm is 11.66.
    layer = nn.Conv2d(1, 1, len(taps), padding=padding, dilation=dilation, bias=False).double()
    line = torch.tensor(taps, dtype=torch.float64)
    layer.weight.data = torch.outer(line, line)[None, None]
    exact = float(torch.linalg.matrix_norm(operator(layer, (1, n, n)), 2))
    bound = layer_lipschitz_bound(layer, (1, n, n), norm="l2")
    assert exact <= bound  # and no more than without edges, where every frequency occurs:
    assert bound <= float(line.abs().sum()) ** 2 * (1 + 1e-8)
    if taps[1:2] == [2.0] and dilation == 1:
        line_of = {3: 2 + 2**0.5, 4: 2 + (1 + 5**0.5) / 2, 5: 2 + 3**0.5}  # 2 + 2 cos(pi / (n + 1))
        assert n == 7 or exact == pytest.approx(line_of[n] ** 2)


def test_power_iteration_that_stops_early_is_caught() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, padding=1, bias=False).double()
    matrix = operator(layer, (4, 7, 7))
    vector = torch.randn(matrix.shape[0], dtype=torch.float64)
    for _ in range(5):
        vector = matrix @ (matrix.T @ vector)
        vector /= vector.norm()
    early = float((matrix.T @ vector).norm())
    assert early > 0.5 * layer_lipschitz_bound(layer, (4, 7, 7), norm="l2")
    assert not is_upper_bound(early, matrix)


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 1),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((3, 2)),
    ],
)
def test_average_pooling_is_exact(layer: nn.Module) -> None:
    matrix = operator(layer, (1, 7, 7))
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    bound = layer_lipschitz_bound(layer, (1, 7, 7), norm="l2")
    assert exact <= bound <= exact * (1 + 1e-8)
    widest = float(matrix.abs().sum(0).max())
    assert layer_lipschitz_bound(layer, (1, 7, 7), norm="linf") == pytest.approx(widest, rel=1e-8)


@pytest.mark.parametrize("options", [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0)])
def test_max_pooling_covers(options: tuple[int, int, int]) -> None:
    layer = nn.MaxPool2d(*options)
    bound = layer_lipschitz_bound(layer, (1, 9, 9), norm="l2")
    generator = torch.Generator().manual_seed(0)
    spikes = torch.eye(81).view(-1, 1, 9, 9) * 5
    first = torch.randn(81, 1, 9, 9, generator=generator) * 0.01
    ratio = (layer(first + spikes) - layer(first)).flatten(1).norm(dim=1) / 5
    assert 0.9 * bound <= float(ratio.max()) <= bound
