"""Refuse what a network returns that is not one row of numbers per image."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from robustcl.errors import InputError

SHOWN = 4  # keys of a dictionary in a message


def check_outputs(outputs: Any, count: int) -> Tensor:
    """Return outputs that are one floating-point tensor (B, d).

    Args:
        outputs: What a network or a head returned.
        count: B.

    Returns:
        The same tensor.

    Raises:
        InputError: When they are something else; the message names it and the cure.
    """
    if not isinstance(outputs, Tensor):
        raise InputError(f"the network returns {_told(outputs)}")
    if not outputs.is_floating_point():
        kind = str(outputs.dtype).removeprefix("torch.")
        raise InputError(
            f"the network returns {kind} numbers; wrap it to return floating-point scores (B, K)"
        )
    if outputs.ndim != 2 or outputs.shape[0] != count:
        cure = "wrap it to return one row per image"
        if outputs.ndim > 2 and outputs.shape[0] == count:
            cure = "wrap it to pool or flatten them to one row per image"
        raise InputError(
            f"the network gives {tuple(outputs.shape)} for {_images(count)}, not ({count}, K); "
            f"{cure}"
        )
    return outputs


def _told(outputs: Any) -> str:
    kind = type(outputs).__name__
    if isinstance(outputs, Mapping):
        keys = [repr(key) for key in list(outputs)[:SHOWN]]
        more = ", ..." if len(outputs) > SHOWN else ""
        first = keys[0] if keys else "'logits'"
        return (
            f"a {kind} with keys {', '.join(keys) or '(none)'}{more}, not one tensor (B, K); wrap "
            f"it in a module that returns one entry, as in outputs[{first}]"
        )
    if isinstance(outputs, Sequence) and not isinstance(outputs, str):
        return (
            f"a {kind} of {len(outputs)}, not one tensor (B, K); wrap it in a module that returns "
            "one entry, as in outputs[0]"
        )
    return (
        f"a {kind}, not one tensor (B, K); wrap it in a module that returns its scores, as in "
        "outputs.logits"
    )


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"
