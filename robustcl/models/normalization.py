"""Find out which input normalization a external model's encoder was trained with."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robustcl.core.checks import is_plain
from robustcl.core.errors import CheckpointError, InputError
from robustcl.core.specification import parse_number

_Numbers = tuple[float, ...]
Pair = tuple[_Numbers, _Numbers]

# CIFAR is not among the words: programs use its mean with two different deviations.
_WORDS: dict[str, Pair] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0,), (1.0,)),
}
# Names under which programs keep a normalization among the weights.
_LAYERS = ("", "normalize.", "normalizer.", "normalization.")
DIGITS = 8  # of a hash in the name of a file
_NAMES = (("mean", "std"), ("mu", "sigma"))
_CURE = (
    "state --mean and --std, as in --mean imagenet; --mean none where it takes images as they are"
)


@dataclass(frozen=True)
class Normalization:
    """Say what is subtracted and divided by, and how that is known.

    Args:
        mean: Channel means, of images in [0, 1].
        std: Channel standard deviations.
        source: 'stated', 'assumed', or whose configuration says so.
        warnings: What the user should hear, a sentence each.
    """

    mean: _Numbers
    std: _Numbers
    source: str
    warnings: tuple[str, ...] = ()

    def differs(self, mean: _Numbers, std: _Numbers, *, channels: int) -> bool:
        """Tell whether another mean or deviation is meant.

        Args:
            mean: The other mean.
            std: The other deviation.
            channels: C.

        Returns:
            Whether a number differs by more than rounding to float32.
        """
        own, other = (
            [number for row in pair for number in (row * channels)[:channels]]
            for pair in ((self.mean, self.std), (mean, std))
        )
        return any(not math.isclose(a, b, rel_tol=1e-6) for a, b in zip(own, other, strict=True))


def stated_normalization(mean: str | None, std: str | None, *, channels: int) -> Pair | None:
    """Read --mean and --std.

    Args:
        mean: _Numbers with commas between, or a word, which then stands for both.
        std: Likewise.
        channels: C.

    Returns:
        Both; None where neither is given.

    Raises:
        InputError: When one of two is given, a word is unknown, or numbers are not usable.
    """
    if mean is None and std is None:
        return None
    words = {text.strip().lower() for text in (mean, std) if text and _is_word(text)}
    if words:
        return _of_word(words, mean, std, channels)
    if mean is None or std is None:
        given, lacking = ("--std", "--mean") if mean is None else ("--mean", "--std")
        raise InputError(f"{given} without {lacking}; give both, or a word such as --mean imagenet")
    found = tuple(_numbers(option, text) for option, text in (("--mean", mean), ("--std", std)))
    _check(found[0], found[1], channels=channels, names=("--mean", "--std"))
    return found[0], found[1]


def in_weights(unplaced: Mapping[str, Tensor], *, channels: int) -> tuple[Pair, list[str]] | None:
    """Find a normalization among tensors of a weight file that fit nowhere in the network.

    Args:
        unplaced: Such tensors, by their name without prefixes.
        channels: C.

    Returns:
        The normalization, and the names it came from; None where there is none.

    Raises:
        CheckpointError: When tensors of these names hold something else.
    """
    for layer in _LAYERS:
        for names in _NAMES:
            keys = [layer + name for name in names]
            if not all(key in unplaced for key in keys):
                continue
            rows = [unplaced[key] for key in keys]
            if not all(_is_row(row, channels) for row in rows):
                raise CheckpointError(f"{' and '.join(keys)} are no means and deviations; {_CURE}")
            mean, std = (tuple(float(number) for number in row.flatten()) for row in rows)
            try:
                _check(mean, std, channels=channels, names=(keys[0], keys[1]))
            except InputError as error:
                raise CheckpointError(f"in the weight file, {error}") from error
            return (mean, std), keys
    return None


def of_architecture(
    architecture: str, network: nn.Module, weights: Path, *, channels: int
) -> Normalization | None:
    """Take the normalization from what timm or torchvision say about an architecture's weights.

    timm keeps a configuration with every network. torchvision keeps one with every weight file it
    has released; it is taken only where the file is one of those, as the hash in their name shows.

    Args:
        architecture: As in `build_backbone`.
        network: The network that was built.
        weights: The weight file.
        channels: C.

    Returns:
        The normalization; None where nothing is known for images of so many channels.
    """
    source, _, name = architecture.partition(":")
    if source == "timm":
        return _of_timm(name, network, channels)
    if source == "torchvision":
        return _of_torchvision(name, weights, channels)
    return None


def assumed() -> Normalization:
    """Assume that a network takes images as they are, and say so.

    Returns:
        Mean 0 and standard deviation 1, with a warning.
    """
    warning = (
        "no input normalization is known and NONE is assumed (mean 0, std 1); accuracy breaks down "
        f"where the network was trained with another: {_CURE}"
    )
    return Normalization(*_WORDS["none"], "assumed", (warning,))


def _of_timm(name: str, network: nn.Module, channels: int) -> Normalization | None:
    import timm  # pyright: ignore[reportMissingImports]

    own = getattr(network, "pretrained_cfg", None) or {}
    mean, std = tuple(own.get("mean") or ()), tuple(own.get("std") or ())
    plain, _, tag = name.partition(".")
    configurations = timm.models.get_arch_pretrained_cfgs(plain)
    if not configurations or channels != len(mean) or channels != len(std):
        return None
    _check(mean, std, channels=channels, names=("timm's mean", "timm's std"))
    others = {
        key
        for key, other in configurations.items()
        if (tuple(other.mean), tuple(other.std)) != (mean, std)
    }
    warnings = ()
    if others and not tag:
        warnings = (
            f"timm's weights of {plain!r} differ in their normalization, and that of "
            f"{own.get('tag')!r} is taken; for others name them, as in --arch "
            f"timm:{min(others)}, or {_CURE}",
        )
    which = f"{own.get('architecture', plain)}.{own.get('tag')}".removesuffix(".None")
    return Normalization(mean, std, f"timm's configuration of {which}", warnings)


def _of_torchvision(name: str, weights: Path, channels: int) -> Normalization | None:
    entry = released_weights(name, weights)
    if entry is None:
        return None
    preset = entry.transforms()
    mean, std = tuple(getattr(preset, "mean", ())), tuple(getattr(preset, "std", ()))
    if channels == len(mean) == len(std):
        return Normalization(mean, std, f"torchvision's configuration of {entry}")
    return None


def released_weights(name: str, weights: Path) -> Any:
    """Find which weights that torchvision has released a file holds.

    Args:
        name: Of the network.
        weights: The file.

    Returns:
        The entry of torchvision's list; None where the file is none of them.
    """
    from torchvision import models

    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    for entry in models.get_model_weights(name):
        # Files are called NAME-HASH.pth, with the first eight digits or more of their SHA-256.
        stated_digits = entry.url.rpartition("-")[2].removesuffix(".pth")
        if len(stated_digits) >= DIGITS and digest.startswith(stated_digits):
            return entry
    return None


def _is_row(row: Tensor, channels: int) -> bool:
    return is_plain(row) and row.is_floating_point() and 1 <= row.numel() <= channels


def _is_word(text: str) -> bool:
    try:
        float(text.partition(",")[0])  # also nan, inf and 1e-3
    except ValueError:
        return any(letter.isalpha() for letter in text)
    return False


def _of_word(words: set[str], mean: str | None, std: str | None, channels: int) -> Pair:
    texts = {text.strip().lower() for text in (mean, std) if text is not None}
    if texts != words or len(words) > 1:
        raise InputError(f"--mean {mean} with --std {std}; a word stands for both, give it once")
    word = words.pop()
    if word.startswith("cifar"):
        raise InputError(
            f"--mean {word} is not one normalization: the mean .4914,.4822,.4465 is used with std "
            ".2470,.2435,.2616 and with .2023,.1994,.2010; write the numbers of your program"
        )
    if word not in _WORDS:
        raise InputError(f"--mean or --std {word!r} is no number and none of {', '.join(_WORDS)}")
    found = _WORDS[word]
    if len(found[0]) not in (1, channels):
        raise InputError(
            f"--mean {word} is for {len(found[0])} channels, the images have {channels}"
        )
    return found


def _numbers(option: str, text: str) -> _Numbers:
    try:
        return tuple(parse_number(part) for part in text.split(","))
    except InputError as error:
        raise InputError(
            f"{option} {text!r} is not numbers with commas between: {error}"
        ) from error


def _check(mean: _Numbers, std: _Numbers, *, channels: int, names: tuple[str, str]) -> None:
    for name, row in zip(names, (mean, std), strict=True):
        text = ",".join(f"{number:g}" for number in row)
        if len(row) not in (1, channels):
            raise InputError(
                f"{name} {text} has {len(row)} numbers for images of {channels} channels; give "
                f"1 or {channels}"
            )
        if not all(map(math.isfinite, row)):
            raise InputError(f"{name} {text} is not finite; give the numbers of training")
        if name == names[0] and min(row) < 0:
            raise InputError(
                f"{name} {text} is below 0, but images are in [0, 1]; images that become "
                "[-1, 1] have mean 0.5 and std 0.5"
            )
        if max(map(abs, row)) > 1:
            raise InputError(
                f"{name} {text} is beyond 1, but images are in [0, 1]; divide numbers for pixels "
                "from 0 to 255 by 255"
            )
    if min(std) <= 0:
        text = ",".join(f"{number:g}" for number in std)
        raise InputError(f"{names[1]} {text} is not positive; give standard deviations")
