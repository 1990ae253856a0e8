"""Write an encoder as the steps that bounds are computed on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustcl.certify.bounds.plain_modules import (
    OTHER_METHODS,
    check_plain,
    check_still,
    no_draws,
    state_of,
)
from robustcl.certify.graph import Network
from robustcl.certify.lowering.export import BATCH, exported
from robustcl.certify.lowering.lower import is_known, lowered
from robustcl.core.classifier import Encoder
from robustcl.core.errors import UnsupportedError
from robustcl.core.memory import is_out_of_memory
from robustcl.core.modules import exact_copy


def trace(encoder: Encoder, *, drops_normalization: bool = False) -> Network:
    """Write an encoder in eval mode as steps in float64, by torch.export.

    A BatchNorm that alone follows a convolution or a linear layer is folded into it; the input
    normalization comes first. Refused, by name and place: an operation without a rule, a network
    that cannot be exported, one that does something else for another number of images, one that
    does more than its layers say (see `check_plain` and `check_still`), and weights that are not
    finite.

    Args:
        encoder: The encoder; left as it was.
        drops_normalization: Whether a final F.normalize is left out, as a classifier that projects
            to the sphere itself allows: a positive factor changes nothing.

    Returns:
        The steps.

    Raises:
        UnsupportedError: When the network's output is not one vector per image.
    """
    check_plain(encoder)
    _check_finite(encoder)
    double = exact_copy(encoder)
    check_plain(double, wants_eval=True)
    with torch.inference_mode(False), torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(BATCH, *encoder.image_shape, generator=generator, dtype=torch.float64)
        images = images.to(encoder.mean.device)
        _check_repeatable(_called(double, images))
        try:
            program = exported(double, images, is_known=is_known)
        except UnsupportedError as error:
            raise UnsupportedError(f"{error}; {OTHER_METHODS}") from error
        network = lowered(program, cure=OTHER_METHODS, drops_normalization=drops_normalization)
    if len(network.steps[-1].shape) != 1:
        raise UnsupportedError(f"the network's output is not one (B, d) tensor; {OTHER_METHODS}")
    return network


def _check_finite(encoder: Encoder) -> None:
    for name, value in encoder.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UnsupportedError(f"the weight {name!r} is not finite; nothing can be certified")


def _called(encoder: Encoder, images: Tensor) -> Sequence[object]:
    # Twice, and with other numbers of images.
    before = state_of(encoder.backbone)
    try:
        with no_draws():
            found = [encoder(images.clone()) for _ in range(2)]
            found.append(torch.cat([encoder(image[None].clone()) for image in images]))
            found.append(encoder(torch.cat([images, images[:1]]))[:BATCH])
            with torch.enable_grad():
                found.append(encoder(images.clone()).detach())
    except UnsupportedError:
        raise
    except Exception as error:  # the network's own code runs
        if is_out_of_memory(error):
            raise
        raise UnsupportedError(
            f"the network cannot be called ({error}); {OTHER_METHODS}"
        ) from error
    check_still(encoder.backbone, before)
    return found


def _check_repeatable(outputs: Sequence[object]) -> None:
    first = outputs[0]
    for number, value in enumerate(outputs):
        if not isinstance(value, Tensor) or not isinstance(first, Tensor):
            kind = type(value).__name__
            raise UnsupportedError(
                f"the network's output is a {kind}, not one tensor; {OTHER_METHODS}"
            )
        if value.shape != first.shape or not torch.allclose(
            value, first, rtol=1e-6, atol=1e-9, equal_nan=True
        ):
            when = "when it is called again" if number < 2 else "with another number of images"
            raise UnsupportedError(
                f"the network gives other values {when}; does it draw random numbers, or mix "
                f"images? {OTHER_METHODS}"
            )
