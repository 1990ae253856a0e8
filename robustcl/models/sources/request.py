"""State what a user says about a model, beside where it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from robustcl.core.errors import InputError
from robustcl.models.normalization import Pair

ImageShape = tuple[int, int, int]


@dataclass(frozen=True)
class ModelRequest:
    """Say how a model that is no checkpoint of robustcl is to be read.

    Args:
        arch: Architecture of a weight file, as in `build_backbone`, or 'stack:ACTIVATION,...';
            None where it is to be recognised.
        arguments: Its keyword arguments.
        network: Which of several networks in a file; None where there is one.
        image_shape: (C, H, W) of the images it takes; None for what is known of it.
        normalization: Channel means and deviations; None for what is known of it.
        own_head: Whether the network's own classification layer is wanted: True, False, or None
            for where it has one.
        class_names: Of its classes, by position; none for numbers.
        allow_partial: Whether to go on where tensors are missing or left over.
    """

    arch: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    network: str | None = None
    image_shape: ImageShape | None = None
    normalization: Pair | None = None
    own_head: bool | None = None
    class_names: tuple[str, ...] = ()
    allow_partial: bool = False

    def refuse_beside(self, what: str, *, but: Sequence[str] = ()) -> None:
        """Refuse what is said about a model that states it itself.

        Args:
            what: Such as "'a.safetensors' is a checkpoint".
            but: Fields that may be given all the same.

        Raises:
            InputError: When another field is given.
        """
        options = {
            "arch": "--arch", "arguments": "--arguments", "network": "--network",
            "image_shape": "--input-size", "normalization": "--mean and --std",
            "class_names": "a file of class names", "allow_partial": "--allow-partial",
        }  # fmt: skip
        for name, option in options.items():
            if name not in but and getattr(self, name):
                raise InputError(f"{what}, which states its own: leave out {option}")
