"""Train an encoder that is 1-Lipschitz by construction."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from robustcl.core.errors import InputError, UnsupportedError
from robustcl.models.encoders.max_min import MaxMin
from robustcl.models.encoders.sorted_halves import to_halves, to_pairs
from robustcl.robust.library_layers import put_in, take_out
from robustcl.robust.orthogonalize import make_orthogonal, orthogonalize, overlaps, patch_matrices

CLAIMED = 1.0  # the Lipschitz constant of an encoder trained so
NEUTRAL = (MaxMin, nn.Flatten, nn.Identity)


@dataclass(frozen=True, kw_only=True)
class Lipschitz:
    """State how an encoder is kept 1-Lipschitz.

    Args:
        layers: 'patch': every matrix is projected; convolutions on separate patches only.
            'orthogonal' or 'aol': overlapping convolutions are trained in the parametrization of
            orthogonium besides, and end as plain layers.

    Raises:
        InputError: When an option is not usable.
    """

    layers: Literal["patch", "orthogonal", "aol"] = "patch"

    def __post_init__(self) -> None:
        if self.layers == "sll":
            raise InputError(
                "layers='sll' adds its input: the product of layer norms that certificates use is "
                "2 for it, though its true constant is 1; use 'orthogonal' or 'aol'"
            )
        if self.layers not in ("patch", "orthogonal", "aol"):
            raise InputError(f"layers {self.layers!r} is unknown; use patch, orthogonal or aol")


def begin_lipschitz(backbone: nn.Module, method: Lipschitz) -> None:
    """Project the matrices, and put the layers into the form they are trained in.

    Args:
        backbone: A chain such as `lipschitz_convnet`; changed in place.
        method: The options.

    Raises:
        UnsupportedError: When a layer is not known to be 1-Lipschitz or made so.
    """
    if not isinstance(backbone, nn.Sequential):
        raise UnsupportedError(
            f"lipschitz trains a chain of layers, not {type(backbone).__name__}; use "
            "--arch lipschitz_convnet"
        )
    for layer in backbone:
        known = type(layer) in (nn.Conv2d, nn.Linear, *NEUTRAL)
        if not known:
            raise UnsupportedError(
                f"lipschitz cannot keep {type(layer).__name__} 1-Lipschitz; use convolutions, "
                "linear layers and MaxMin, as --arch lipschitz_convnet has them"
            )
        if method.layers == "patch" and type(layer) is nn.Conv2d and overlaps(layer):
            raise UnsupportedError(
                f"patches of {layer} overlap, so its matrix does not bound it; use "
                "lipschitz:layers=orthogonal or layers=aol"
            )
    to_halves(backbone)
    if method.layers != "patch":
        put_in(backbone, method.layers)
    make_orthogonal(patch_matrices(backbone))


def after_lipschitz_step(backbone: nn.Module) -> None:
    """Bring the matrices back after a step of the optimizer.

    Args:
        backbone: The chain after `begin_lipschitz`.
    """
    orthogonalize(patch_matrices(backbone))


def end_lipschitz(backbone: nn.Module) -> None:
    """Make the matrices orthogonal to float32's last digits, in plain layers.

    Args:
        backbone: The chain after training, also with averaged weights; changed in place.
    """
    assert isinstance(backbone, nn.Sequential)
    take_out(backbone)
    make_orthogonal(patch_matrices(backbone))
    to_pairs(backbone)
