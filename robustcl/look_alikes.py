"""Name architectures that a weight file cannot be told from: same keys and shapes, other function.

What keys and shapes do not show cannot be found in a weight file. The pairs below are asked about
or pointed out. Others cannot be known: the place of the stride in ResNet's bottleneck (first or
second convolution; torchvision and timm have the second), the epsilon and the momentum of
normalization layers, the kind of activation, pooling of tokens, the order of input channels. The
proof that an encoder was brought in rightly is that it gives the embeddings of the program that
trained it, or at least its accuracy.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from robustcl.core.errors import CheckpointError

STEM = "stem_padding"
# Prefixes under which solo-learn, and programs that follow it, keep the encoder.
ASKED = ("backbone.", "encoder.", "momentum_backbone.", "momentum_encoder.")


def ask_about_stem(
    architecture: str, arguments: Mapping[str, Any], keys: Iterable[str]
) -> tuple[str, ...]:
    """Refuse weights of `cifar_resnet18` whose keys look like solo-learn's until a stem is stated.

    Args:
        architecture: The architecture that was asked for.
        arguments: Its arguments; `stem_padding` among them is an answer.
        keys: Keys of the weight file.

    Returns:
        Warnings, a sentence each.

    Raises:
        CheckpointError: When the file may hold either and nobody has said which.
    """
    if architecture != "cifar_resnet18" or STEM in arguments:
        return ()
    choice = (
        f"--arguments '{{\"{STEM}\": 2}}' for solo-learn's stem (3x3 with padding 2), or "
        f"'{{\"{STEM}\": 1}}' for the paper's (padding 1)"
    )
    asked = next((key for key in keys if any(f".{key}".count(f".{p}") for p in ASKED)), None)
    if asked is not None:
        raise CheckpointError(
            f"key {asked!r} is as in solo-learn, whose stem has the same shapes as "
            f"{architecture} and another function; state which it is: {choice}"
        )
    return (
        "the padding of the stem cannot be seen in a weight file; 1 is assumed. State it by "
        f"{choice}",
    )


def timm_twins(architecture: str) -> tuple[str, ...]:
    """Warn where timm has a second network with the same keys and shapes.

    Args:
        architecture: As in `build_backbone`.

    Returns:
        Warnings, a sentence each.
    """
    source, _, name = architecture.partition(":")
    if source != "timm":
        return ()
    import timm  # pyright: ignore[reportMissingImports]

    plain = name.partition(".")[0]
    others = {f"tf_{plain}", plain.removeprefix("tf_"), plain.replace("_clip_quickgelu", "_clip")}
    if "quickgelu" not in plain:
        others.add(plain.replace("_clip_", "_clip_quickgelu_"))
    known = sorted((others - {plain}) & set(timm.list_models()))
    return tuple(
        f"timm's {other!r} has the same tensors as {plain!r} and another function (padding, "
        "epsilon or activation); make sure that the weights are of the one you named"
        for other in known
    )
