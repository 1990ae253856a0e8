"""Hold the Lipschitz constant that a checkpoint claims against the one that is computed."""

from robustcl.certify.bounds.network_norm import network_norm
from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError
from robustcl.models.description import Description


def checked_constant(encoder: Encoder, description: Description) -> float | None:
    """Compute the constant that certificates use, and refuse a claim that is smaller.

    Args:
        encoder: The encoder.
        description: What its checkpoint claims.

    Returns:
        The guaranteed L2 bound of the raw embedding, in pixel units; None where nothing is
        claimed, and then nothing is computed.

    Raises:
        InputError: When the claim is below the bound.
    """
    claimed = description.lipschitz_constant
    if claimed is None:
        return None
    computed = network_norm(encoder).total
    if not claimed >= computed:
        raise InputError(
            f"the checkpoint claims a Lipschitz constant of {claimed:.9g}, but the product of its "
            f"layers' guaranteed norms is {computed:.9g}; its weights were changed, or an older "
            "program rounded them: train it again with --robust lipschitz, or convert it anew, "
            "which claims nothing"
        )
    return computed


def constants_text(claimed: float, computed: float) -> str:
    """Say both constants.

    Args:
        claimed: By the checkpoint.
        computed: The guaranteed bound.

    Returns:
        A line of text.
    """
    return (
        f"Lipschitz constant of the embedding in L2: claimed {claimed:g}, computed from guaranteed "
        f"layer norms {computed:.9f}; certificates use the computed one"
    )
