"""Describe functions of one number by their slopes, and by lines above and below them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.certify.rounding import outward
from robustcl.core.errors import UnsupportedError

CELLS = 8
LARGEST_PARAMETER = 1e30


@dataclass(frozen=True, eq=False)
class ScalarFunction:
    """Hold a function that acts on each number alone.

    Args:
        name: Its name.
        steepest: An upper bound of |slope| everywhere.
        value: The function.
        slope: Its derivative, where it has one; None where only `steepest` is known.
        turns: Where the slope has a local extreme or a jump, and the slopes found there.
        bends: Where the function has a local extreme.
        curvature: An upper bound of the second derivative's size away from jumps of the slope.
        kinks: Where the slope jumps and by how much, for functions that are curved, or have more
            kinks than one at 0.
        leap: An upper bound of how far the true function lies from this one anywhere, such as by a
            jump. All else here is about the function without it.
        magnitude: Evaluating a value or a slope at z loses at most `outward(z)` times this times
            |z| + 1.
        is_exact: Whether its values and slopes suffer no rounding.
    """

    name: str
    steepest: float
    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor] | None = None
    turns: tuple[tuple[float, float], ...] = ()
    bends: tuple[float, ...] = ()
    curvature: float = 0.0
    kinks: tuple[tuple[float, float], ...] = ()
    leap: float = 0.0
    magnitude: float = 1.0
    is_exact: bool = False

    @property
    def is_piecewise_linear(self) -> bool:
        """Whether it is a line on each side of 0."""
        return self.curvature == 0.0 and not self.kinks

    def slope_at(self, points: Tensor) -> Tensor:
        """Evaluate the slope.

        Args:
            points: Where.

        Returns:
            The derivative; at a jump, the one on its left.

        Raises:
            UnsupportedError: When only the steepest slope is known.
        """
        if self.slope is None:
            raise UnsupportedError(f"{self.name} has no bound on an interval, only a global one")
        return self.slope(points)

    def slopes(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Enclose the slope on an interval.

        Args:
            low: Left ends.
            high: Right ends.

        Returns:
            The smallest and the largest slope, rounded outward unless they are constants.
        """
        left, right = self.slope_at(low), self.slope_at(high)
        smallest, largest = torch.minimum(left, right), torch.maximum(left, right)
        if self.is_piecewise_linear:  # the slopes at the ends are all there are
            return smallest, largest
        for place, slope in self.turns:
            inside = (low <= place + outward(low)) & (high >= place - outward(low))
            smallest = torch.where(inside, smallest.clamp(max=slope), smallest)
            largest = torch.where(inside, largest.clamp(min=slope), largest)
        lost = outward(low) * self.magnitude
        return smallest - lost, largest + lost

    def range(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Enclose the function on an interval.

        Args:
            low: Left ends.
            high: Right ends.

        Returns:
            The smallest and the largest value, rounded outward unless exact.
        """
        if self.slope is None:  # where it rises and falls is not known either
            middle, half = (low + high) / 2.0, (high - low) / 2.0
            value = self.value(middle)
            gap = self.steepest * half * (1.0 + outward(low))
            gap = gap + self._lost(low, high)
            return value - gap, value + gap
        left, right = self.value(low), self.value(high)
        smallest, largest = torch.minimum(left, right), torch.maximum(left, right)
        for place in self.bends:
            extreme = self.value(torch.full_like(low, place))
            inside = (low <= place + outward(low)) & (high >= place - outward(low))
            smallest = torch.where(inside, torch.minimum(smallest, extreme), smallest)
            largest = torch.where(inside, torch.maximum(largest, extreme), largest)
        if self.is_exact:
            return smallest, largest
        lost = self._lost(low, high)
        return smallest - lost, largest + lost

    def _lost(self, low: Tensor, high: Tensor) -> Tensor:
        return outward(low) * self.magnitude * (torch.maximum(low.abs(), high.abs()) + 1.0)

    def offsets(self, low: Tensor, high: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Enclose value(z) - slope z on an interval, for lines of this slope below and above.

        On each of `CELLS` cells of width w a function stays within curvature w^2/8 and, for every
        kink in it, jump w/4 of its chord, so the values at the cells' ends enclose it up to that.
        For functions with one kink and no curvature see `kinked_lines`.

        Args:
            low: Left ends.
            high: Right ends.
            slope: The slope of both lines.

        Returns:
            Offsets of the line below and of the line above.
        """
        width = (high - low) / CELLS
        ends = [low + width * step for step in range(CELLS)] + [high]
        rests = [self.value(end) - slope * end for end in ends]
        below, above = rests[0], rests[0]
        for rest in rests[1:]:
            below, above = torch.minimum(below, rest), torch.maximum(above, rest)
        gap = self.curvature * width**2 / 8.0
        for place, jump in self.kinks:
            crossing = (low < place) & (high > place)
            gap = gap + torch.where(crossing, jump * width / 4.0, torch.zeros_like(width))
        gap = gap + (1.0 + slope.abs()) * self._lost(low, high)
        return below - gap, above + gap


def usable(name: str, parameter: str, value: float | Tensor) -> float:
    """Read a parameter, and refuse one whose bounds would say nothing.

    Args:
        name: Of the function.
        parameter: Its name.
        value: Its value.

    Returns:
        The number.

    Raises:
        UnsupportedError: When it is not finite, or huge.
    """
    number = float(value)
    if not abs(number) <= LARGEST_PARAMETER:
        raise UnsupportedError(f"{name} with {parameter} {number:g} has no usable bounds")
    return number


def second_of_pairs(shape: tuple[int, ...]) -> ScalarFunction:
    """Describe |z| on every second channel, and z on the others.

    Between a rotation of each pair of channels and its inverse this is MaxMin, as max and min are
    (a + b) / 2 +- |a - b| / 2.

    Args:
        shape: (C, ...) of one input, C even.

    Returns:
        The function.
    """
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(shape[0] // 2)
    signs = signs.view(1, -1, *[1] * (len(shape) - 1))
    return ScalarFunction(
        "MaxMin",
        1.0,
        lambda z: torch.where(z > 0, z, signs.to(z) * z),
        lambda z: torch.where(z > 0, torch.ones_like(z), signs.to(z)),
        bends=(0.0,),
        is_exact=True,
    )


def kinked_by_channel(name: str, below: Tensor) -> ScalarFunction:
    """Describe z on the right of 0 and multiples of it on the left, one per channel.

    Args:
        name: Its name.
        below: The slopes on the left, which broadcast to (B, *shape).

    Returns:
        The function.
    """
    largest = max(1.0, float(below.abs().max()))
    return ScalarFunction(
        name,
        largest,
        lambda z: torch.where(z > 0, z, below.to(z) * z),
        lambda z: torch.where(z > 0, torch.ones_like(z), below.to(z)),
        bends=(0.0,) if bool((below < 0).any()) else (),
        magnitude=largest,
    )


def kinked(name: str, below: float) -> ScalarFunction:
    """Describe z on the right of 0 and a multiple of it on the left: ReLU, LeakyReLU, PReLU.

    Args:
        name: Its name.
        below: The slope on the left.

    Returns:
        The function.
    """
    return ScalarFunction(
        name,
        max(1.0, abs(below)),
        lambda z: torch.where(z > 0, z, below * z),
        lambda z: torch.where(z > 0, torch.ones_like(z), below),
        bends=(0.0,) if below < 0 else (),
        magnitude=max(1.0, abs(below)),
        is_exact=below == 0.0,
    )


def elu(alpha: float) -> ScalarFunction:
    """Describe ELU.

    Args:
        alpha: Its parameter.

    Returns:
        The function.
    """
    return ScalarFunction(
        "ELU",
        max(1.0, abs(alpha)),
        lambda z: torch.where(z > 0, z, alpha * torch.expm1(z.clamp(max=0.0))),
        lambda z: torch.where(z > 0, 1.0, alpha * torch.exp(z.clamp(max=0.0))),
        turns=((0.0, 1.0), (0.0, alpha)),
        bends=(0.0,) if alpha < 0 else (),
        curvature=max(abs(alpha), 1e-300),
        kinks=((0.0, abs(1.0 - alpha)),) if alpha != 1.0 else (),
        magnitude=max(1.0, abs(alpha)),
    )


def softplus(beta: float, threshold: float) -> ScalarFunction:
    """Describe Softplus.

    Args:
        beta: Its parameter.
        threshold: Where beta z exceeds it torch returns z itself.

    Returns:
        The function.

    Raises:
        UnsupportedError: When it jumps too far for bounds to be of use.
    """
    if beta == 0.0 or threshold < 20:
        raise UnsupportedError(
            f"Softplus with beta {beta:g} and threshold {threshold:g}: it divides by beta and "
            "jumps at its threshold; use beta other than 0 and a threshold of 20"
        )
    # log(1 + exp(beta z)) / beta, and z itself where beta z exceeds the threshold: a leap of
    # log(1 + exp(-threshold)) / |beta| there, and less than it beyond. Concave for beta < 0.
    size = abs(beta)
    ramp = (lambda z: z.clamp_min(0.0)) if beta > 0 else (lambda z: z.clamp_max(0.0))
    return ScalarFunction(
        "Softplus",
        1.0,
        lambda z: ramp(z) + torch.log1p(torch.exp(-size * z.abs())) / beta,
        lambda z: torch.sigmoid(beta * z),
        curvature=size / 4.0 * (1.0 + 1e-9) + 1e-12,
        magnitude=max(1.0, 1.0 / size),
        leap=math.log1p(math.exp(-threshold)) / size * (1.0 + 1e-9),
    )


def _gelu_slope(z: Tensor) -> Tensor:
    density = torch.exp(-z * z / 2.0) / math.sqrt(2.0 * math.pi)
    return 0.5 * torch.special.erfc(-z / math.sqrt(2.0)) + z * density


def _tanh_gelu_slope(z: Tensor) -> Tensor:
    root, cubic = math.sqrt(2.0 / math.pi), 0.044715
    inner = torch.tanh(root * (z + cubic * z**3))
    return 0.5 * (1.0 + inner) + 0.5 * z * (1.0 - inner**2) * root * (1.0 + 3.0 * cubic * z**2)


def _silu_slope(z: Tensor) -> Tensor:
    gate = torch.sigmoid(z)
    return gate * (1.0 + z * (1.0 - gate))


def _mish_slope(z: Tensor) -> Tensor:
    inner = torch.tanh(functional.softplus(z, threshold=40.0))
    return inner + z * (1.0 - inner**2) * torch.sigmoid(z)


def _extreme(place: float, slope: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    # The place is given to 9 digits; at an extreme the slope is then right to 1e-16.
    return place, float(slope(torch.tensor(place, dtype=torch.float64)))


def _turned(place: float, slope: Callable[[Tensor], Tensor]) -> tuple[tuple[float, float], ...]:
    return _extreme(-place, slope), _extreme(place, slope)


GELU = ScalarFunction(
    "GELU",
    1.12891,
    functional.gelu,
    _gelu_slope,
    turns=_turned(math.sqrt(2.0), _gelu_slope),
    bends=(-0.751791524,),
    curvature=0.79789,
)
TANH_GELU = ScalarFunction(
    "GELU (tanh)",
    1.12900,
    lambda z: functional.gelu(z, approximate="tanh"),
    _tanh_gelu_slope,
    turns=_turned(1.418504009, _tanh_gelu_slope),
    bends=(-0.752461422,),
    curvature=0.79789,
)
RELU = kinked("ReLU", 0.0)
SILU = ScalarFunction(
    "SiLU",
    1.09985,
    functional.silu,
    _silu_slope,
    turns=_turned(2.399357280, _silu_slope),
    bends=(-1.278464543,),
    curvature=0.5 + 1e-9,
)
TANH = ScalarFunction(
    "Tanh",
    1.0,
    torch.tanh,
    lambda z: 1.0 - torch.tanh(z) ** 2,
    turns=((0.0, 1.0),),
    curvature=0.76981,
)
SIGMOID = ScalarFunction(
    "Sigmoid",
    0.25,
    torch.sigmoid,
    lambda z: torch.sigmoid(z) * torch.sigmoid(-z),
    turns=((0.0, 0.25),),
    curvature=0.09623,
)
MISH = ScalarFunction(
    "Mish",
    1.08850,
    functional.mish,
    _mish_slope,
    turns=(_extreme(-2.256376399, _mish_slope), _extreme(1.490571184, _mish_slope)),
    bends=(-1.192431215,),
    curvature=0.64421,
)
LOG_SIGMOID = ScalarFunction(
    "LogSigmoid",
    1.0,
    functional.logsigmoid,
    lambda z: torch.sigmoid(-z),
    curvature=0.25 + 1e-9,
)
HARDSWISH = ScalarFunction(
    "Hardswish",
    1.5,
    functional.hardswish,
    lambda z: torch.where(z <= -3.0, 0.0, torch.where(z > 3.0, 1.0, (2.0 * z + 3.0) / 6.0)),
    turns=((-3.0, 0.0), (-3.0, -0.5), (3.0, 1.0), (3.0, 1.5)),
    bends=(-1.5,),
    curvature=1.0 / 3.0 + 1e-9,
    kinks=((-3.0, 0.5), (3.0, 0.5)),
)


def clamped(name: str, low: float, high: float, *, slope: float = 1.0) -> ScalarFunction:
    """Describe a line that stays between two values: clamp, ReLU6, Hardtanh, Hardsigmoid.

    Args:
        name: Its name.
        low: Where it begins to rise.
        high: Where it ends.
        slope: In between; the value at `low` is `low`, or 0 where the slope is another than 1.

    Returns:
        The function.
    """
    start = low if slope == 1.0 else 0.0
    size = max(1.0, *(abs(end) for end in (low, high) if math.isfinite(end)))
    ends = [end for end in (low, high) if math.isfinite(end)]

    def value(z: Tensor) -> Tensor:
        return z.clamp(low, high) if slope == 1.0 else (z.clamp(low, high) - low) * slope + start

    return ScalarFunction(
        name,
        abs(slope),
        value,
        lambda z: torch.where((z > low) & (z <= high), slope, torch.zeros_like(z)),
        turns=tuple((end, s) for end in ends for s in (0.0, slope)),
        curvature=1e-300,
        kinks=tuple((end, abs(slope)) for end in ends),
        magnitude=size,
    )


def scaled_elu(name: str, alpha: float, *, scale: float, rate: float) -> ScalarFunction:
    """Describe scale z on the right of 0, scale alpha (exp(rate z) - 1) on the left: SELU, CELU.

    Args:
        name: Its name.
        alpha: Of the left side.
        scale: Of both sides.
        rate: In the exponent.

    Returns:
        The function.
    """
    left = scale * alpha * rate
    return ScalarFunction(
        name,
        max(abs(scale), abs(left)) * (1.0 + 1e-9),
        lambda z: torch.where(
            z > 0, scale * z, scale * alpha * torch.expm1((rate * z).clamp(max=0.0))
        ),
        lambda z: torch.where(z > 0, scale, left * torch.exp((rate * z).clamp(max=0.0))),
        turns=((0.0, scale), (0.0, left)),
        bends=(0.0,) if left * scale < 0 else (),
        curvature=max(abs(left * rate) * (1.0 + 1e-9), 1e-300),
        kinks=((0.0, abs(scale - left)),) if scale != left else (),
        magnitude=max(1.0, abs(scale), abs(left), abs(scale * alpha)),
    )


SELU = scaled_elu("SELU", 1.6732632423543772, scale=1.0507009873554805, rate=1.0)
