"""Check images, tensors, networks and what networks give."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from robustcl.core.errors import InputError

_KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_images(
    images: Tensor,
    image_shape: tuple[int, int, int] | None = None,
    *,
    box: tuple[float, float] | None = (0.0, 1.0),
) -> Tensor:
    """Return images that every certificate and attack can work on.

    Args:
        images: (B, C, H, W), floating point, in the box.
        image_shape: (C, H, W) that the model takes, where it is known.
        box: Pixel range; None for any finite pixels.

    Returns:
        The images; a plain copy where they were made in `torch.inference_mode`.

    Raises:
        InputError: When there is no image, one is not finite or has pixels outside of the box, or
            type or shape are others.
    """
    check_form(images, image_shape)
    _check_pixels(images, box)
    return plain_tensor(images)


def check_form(images: Tensor, image_shape: tuple[int, int, int] | None = None) -> None:
    """Refuse images of another type or shape than a model takes, whatever their pixels are.

    Args:
        images: (B, C, H, W), floating point.
        image_shape: (C, H, W) that the model takes, where it is known.

    Raises:
        InputError: When type or shape are others, or there is no image.
    """
    if not isinstance(images, Tensor):
        raise InputError(f"images are a {type(images).__name__}; give a tensor (B, C, H, W)")
    if images.layout != torch.strided or images.is_nested or images.is_meta:
        kind = "nested" if images.is_nested else str(images.layout).removeprefix("torch.")
        kind = "on the meta device, without numbers" if images.is_meta else kind
        raise InputError(f"images are {kind}; give an ordinary dense tensor (B, C, H, W)")
    if images.is_floating_point() and images.dtype not in _KINDS:
        raise InputError(f"images are {images.dtype}; convert to float32 in [0, 1]")
    if images.is_complex() or not images.is_floating_point():
        cure = "divide by 255" if images.dtype == torch.uint8 else "convert to float32 in [0, 1]"
        raise InputError(f"images are {images.dtype}; {cure}")
    if images.ndim != 4:
        raise InputError(f"images of shape {tuple(images.shape)} are not (B, C, H, W)")
    if images.shape[0] == 0:
        raise InputError("there are no images; give at least one")
    if image_shape is not None and tuple(images.shape[1:]) != image_shape:
        raise InputError(
            f"images of shape {tuple(images.shape[1:])} (C, H, W) but the encoder takes "
            f"{image_shape}; resize, or convert with --input-size"
        )


def _check_pixels(images: Tensor, box: tuple[float, float] | None) -> None:
    low, high = (float(value) for value in images.detach().aminmax())
    within = (-torch.inf, torch.inf) if box is None else box
    if within[0] <= low and high <= within[1] and low > -torch.inf and high < torch.inf:
        return
    if not bool(torch.isfinite(images).all()):
        raise InputError("an image is not finite; leave it out")
    if box != (0.0, 1.0):
        raise InputError(f"an image has pixels outside the box {box}; scale the images")
    cure = "divide by 255" if high > 2.0 else "scale to [0, 1], normalization belongs inside"
    raise InputError(f"images have pixels from {low:g} to {high:g}, not in [0, 1]; {cure}")


# A buffer whose name ends so is a count: files that are older than BatchNorm's counter lack it.
COUNTER = "num_batches_tracked"
VARIANCE = "running_var"


def is_plain(value: Tensor) -> bool:
    """Tell whether a tensor is numbers in memory.

    Args:
        value: The tensor.

    Returns:
        False for one that is sparse, nested, quantized, or on the meta device.
    """
    return not (
        value.is_meta or value.is_nested or value.is_quantized or value.layout != torch.strided
    )


def objection_to_numbers(value: Tensor, name: str) -> str | None:
    """Say why no network may be filled with a tensor, whatever its shape and type.

    Args:
        value: The tensor.
        name: Its name.

    Returns:
        The reason; None where there is none.
    """
    if value.is_meta:
        return "is on the meta device and holds no numbers"
    if not is_plain(value):
        return "is sparse, nested or quantized, not a plain tensor"
    if value.is_floating_point():
        # The types of eight bits have no test of their own.
        wide = value.to(torch.float64) if value.element_size() == 1 else value
        if not bool(torch.isfinite(wide).all()):
            return "has NaN or infinite values"
        if name.rpartition(".")[2] == VARIANCE and bool((wide < 0).any()):
            return f"is a variance and has the negative value {float(wide.min()):g}"
    return None


def objection_to_type(value: Tensor, wanted: Tensor) -> str | None:
    """Say why a tensor is of the wrong kind for its place.

    Floating-point numbers go to floating-point places, where they are converted. Counters, indices
    and masks keep their type.

    Args:
        value: The tensor.
        wanted: The network's own tensor.

    Returns:
        The reason; None where there is none.
    """
    if value.dtype == wanted.dtype:
        return None
    if value.is_floating_point() and wanted.is_floating_point():
        return None
    return f"is {short(value.dtype)}, but the network has {short(wanted.dtype)} there"


def exactly(value: Tensor, kind: torch.dtype) -> Tensor | None:
    """Convert a floating-point tensor to another type where no number is rounded.

    Args:
        value: Finite numbers.
        kind: The type.

    Returns:
        The numbers in that type; None where one of them is not representable.
    """
    if value.dtype == kind:
        return value
    converted = value.to(kind)
    same = bool((converted.to(torch.float64) == value.to(torch.float64)).all())
    return converted if same else None


def short(kind: torch.dtype) -> str:
    """Name a type without the word torch.

    Args:
        kind: The type.

    Returns:
        As in 'float32'.
    """
    return str(kind).removeprefix("torch.")


_SHOWN = 4  # keys of a dictionary in a message


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
        keys = [repr(key) for key in list(outputs)[:_SHOWN]]
        more = ", ..." if len(outputs) > _SHOWN else ""
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


def check_network(network: nn.Module, *, what: str = "network") -> None:
    """Refuse a network whose weights have no numbers, no gradient or no common type.

    Args:
        network: The network.
        what: What it is, for messages.

    Raises:
        InputError: When it is no module, is frozen TorchScript, or has weights that are lazy, on
            the meta device, made in `torch.inference_mode`, complex, or of several types.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"the {what} is a {type(network).__name__}; give an nn.Module")
    if isinstance(network, torch.jit.ScriptModule) and not hasattr(network, "training"):
        raise InputError(
            f"the {what} is frozen TorchScript, whose weights are constants that cannot be copied "
            "in float64; give it as it was before torch.jit.freeze"
        )
    for name, weight in _named_weights(network):
        _check_weight(f"{name!r} of the {what}", weight)
    kinds: dict[torch.dtype, str] = {}
    for name, weight in network.named_parameters():
        if weight.is_floating_point():
            kinds.setdefault(weight.dtype, name)
    if len(kinds) > 1:
        mixed = " and ".join(f"{_short(kind)} ({name!r})" for kind, name in kinds.items())
        raise InputError(f"the {what} mixes weights of {mixed}; use {what}.float(), or .half()")


def weight_type(network: nn.Module) -> torch.dtype | None:
    """Tell the floating-point type of a network's weights.

    Args:
        network: A network of one type, as `check_network` sees to.

    Returns:
        The type of the first parameter, else of the first buffer; None without either.
    """
    weights = (weight for _, weight in _named_weights(network))
    return next((weight.dtype for weight in weights if weight.is_floating_point()), None)


def weight_device(network: nn.Module) -> torch.device:
    """Tell where a network computes.

    Args:
        network: The network.

    Returns:
        The device of its first parameter or buffer; the CPU without either.
    """
    return next((weight.device for _, weight in _named_weights(network)), torch.device("cpu"))


def _named_weights(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(network.named_parameters(), network.named_buffers())


def _check_weight(name: str, weight: Tensor) -> None:
    if is_lazy(weight):
        raise InputError(f"{name} is lazy and has no shape yet; call the module once")
    if weight.is_meta:
        raise InputError(f"{name} is on the meta device and holds no numbers; load its weights")
    if weight.is_inference():
        raise InputError(
            f"{name} was made in torch.inference_mode, so no gradient can pass "
            "by it; build or load the network outside of it"
        )
    if weight.is_complex():
        raise InputError(
            f"{name} is {_short(weight.dtype)}, which has no float64 copy; keep "
            "real and imaginary parts as two weights"
        )


def _short(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def plain_tensor(values: Tensor) -> Tensor:
    """Return a tensor that gradients may pass by.

    Args:
        values: A tensor.

    Returns:
        The tensor itself; a copy where it was made in `torch.inference_mode`.
    """
    if not values.is_inference():
        return values
    with torch.inference_mode(False):
        return values.clone()
