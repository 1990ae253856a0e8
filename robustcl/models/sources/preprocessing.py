"""Read what a model's own files say about its input: size, crop, interpolation, mean, std."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from robustcl.core.errors import CheckpointError, InputError
from robustcl.data.transform import INTERPOLATIONS, ImageTransform, Interpolation
from robustcl.models.sources.request import ImageShape

_PILLOW = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers
_MOST = 8192  # pixels of a side


@dataclass(frozen=True)
class Preprocessing:
    """State how a model wants its images.

    Args:
        image_shape: (C, H, W).
        mean: Channel means, of images in [0, 1].
        std: Channel standard deviations.
        transform: How images are brought to that shape.
        source: Which file says so.
    """

    image_shape: ImageShape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    transform: ImageTransform
    source: str


def of_processor(config: Mapping[str, Any], source: str) -> Preprocessing:
    """Read a `preprocessor_config.json` of transformers.

    Args:
        config: Its content.
        source: The file, for messages.

    Returns:
        The preprocessing.

    Raises:
        CheckpointError: When it is not understood.
    """
    if "crop_pct" in config and "crop_size" not in config:  # ConvNext and its kin
        side = _side(config.get("size"), source)
        share = _number(config.get("crop_pct") or 1.0, "crop_pct", source)
        squash = side >= 384
        resize = side if squash else int(side / share)
    else:
        side = _side(config.get("crop_size") or config.get("size"), source)
        resize = _side(config.get("size"), source)
        if not config.get("do_center_crop", False):
            side = resize
        squash = "shortest_edge" not in _table(config.get("size")) and not config.get(
            "do_center_crop", False
        )
    number = config.get("resample", 2)
    if not isinstance(number, int) or not 0 <= number < len(_PILLOW):
        raise CheckpointError(f"{source} states resample {number!r}; give --data ...,size=N")
    factor = _number(config.get("rescale_factor", 1 / 255), "rescale_factor", source)
    if config.get("do_rescale", True) and not math.isclose(factor, 1 / 255, rel_tol=1e-4):
        raise CheckpointError(
            f"{source} rescales pixels by {factor:g}, not by 1/255; state --mean and --std for "
            "images in [0, 1]"
        )
    mean, std = (0.0,), (1.0,)
    if config.get("do_normalize", True):
        mean = _row(config.get("image_mean"), "image_mean", source)
        std = _row(config.get("image_std"), "image_std", source)
    how = _transform(resize, side, _PILLOW[number], squash=squash, source=source)
    return Preprocessing((3, side, side), mean, std, how, source)


def of_timm(config: Mapping[str, Any], source: str) -> Preprocessing:
    """Read a pretrained configuration of timm.

    Args:
        config: Its content.
        source: The file, for messages.

    Returns:
        The preprocessing.

    Raises:
        CheckpointError: When it is not understood.
    """
    size = config.get("input_size") or (3, 224, 224)
    try:
        channels, high, wide = (int(side) for side in size)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{source} states input_size {size!r}; state --input-size") from error
    if high != wide:
        raise CheckpointError(f"{source} states images of {high}x{wide}, which are no square")
    share = _number(config.get("crop_pct") or 0.875, "crop_pct", source)
    squash = config.get("crop_mode", "center") == "squash"
    resize = high if squash else max(math.floor(high / share), high)
    mean, std = (_row(config.get(name), name, source) for name in ("mean", "std"))
    name = str(config.get("interpolation") or "bilinear")
    how = _transform(resize, high, name, squash=squash, source=source)
    return Preprocessing((channels, high, wide), mean, std, how, source)


def of_open_clip(
    config: Mapping[str, Any], vision: Mapping[str, Any], source: str
) -> Preprocessing:
    """Read the `preprocess_cfg` of an open_clip configuration.

    Args:
        config: Its content; OpenAI's where something is not stated.
        vision: `vision_cfg` of the model.
        source: The file, for messages.

    Returns:
        The preprocessing.

    Raises:
        CheckpointError: When it is not understood.
    """
    size = config.get("size") or vision.get("image_size") or 224
    side = int(size[0]) if isinstance(size, list | tuple) else _whole(size, "size", source)
    openai = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    mean = _row(config.get("mean") or openai[0], "mean", source)
    std = _row(config.get("std") or openai[1], "std", source)
    mode = config.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash"):
        raise CheckpointError(f"{source} states resize_mode {mode!r}; resize the images yourself")
    name = str(config.get("interpolation") or "bicubic")
    how = _transform(side, side, name, squash=mode == "squash", source=source)
    return Preprocessing((3, side, side), mean, std, how, source)


def of_torchvision(preset: object, source: str) -> ImageTransform | None:
    """Read the transform of weights that torchvision has released.

    Args:
        preset: What `weights.transforms()` gives.
        source: The weights, for messages.

    Returns:
        The transform; None where it is another kind of preset.
    """
    resize, crop = (getattr(preset, name, None) for name in ("resize_size", "crop_size"))
    how = getattr(getattr(preset, "interpolation", None), "value", None)
    if not (isinstance(resize, list) and isinstance(crop, list) and isinstance(how, str)):
        return None
    if not isinstance(resize[0], int) or not isinstance(crop[0], int) or resize[0] < crop[0]:
        return None
    return _transform(resize[0], crop[0], how, squash=False, source=source)


def _transform(resize: int, crop: int, name: str, *, squash: bool, source: str) -> ImageTransform:
    how = "bicubic" if name == "random" else name
    if how not in INTERPOLATIONS or not 1 <= crop <= resize <= _MOST:
        raise CheckpointError(
            f"{source} resizes images to {resize}, crops them to {crop}, by {name!r}, which is not "
            "understood; give --data ...,size=N"
        )
    return ImageTransform(resize, crop, cast(Interpolation, how), squash=squash)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _side(value: object, source: str) -> int:
    sides = _table(value)
    if {"height", "width"} <= set(sides):
        if sides["height"] != sides["width"]:
            raise CheckpointError(f"{source} states images of {value}, which are no square")
        return _whole(sides["height"], "size", source)
    return _whole(sides.get("shortest_edge", value), "size", source)


def _whole(value: object, name: str, source: str) -> int:
    if type(value) is not int or not 1 <= value <= _MOST:
        raise CheckpointError(f"{source} states {name} {str(value)[:80]}; state --input-size")
    return value


def _number(value: object, name: str, source: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise CheckpointError(f"{source} states {name} {str(value)[:80]}, no positive number")
    return float(value)


def _row(value: object, name: str, source: str) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) not in (1, 3):
        raise InputError(f"{source} states {name} {str(value)[:80]}; state --mean and --std")
    if not all(isinstance(one, int | float) and math.isfinite(one) for one in value):
        raise InputError(f"{source} states {name} {str(value)[:80]}; state --mean and --std")
    return tuple(float(one) for one in value)
