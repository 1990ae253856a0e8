"""Say what about a model makes attacks on it misleading."""

from dataclasses import dataclass


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
