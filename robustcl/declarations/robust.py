"""Declare how training is made robust: one row per method."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RobustRow:
    """Describe a method.

    Args:
        home: MODULE:CLASS in `training/robust`; the class is a `RobustMethod`, and its fields are
            the method's options.
        arch: The encoder that is trained where none is named.
    """

    home: str
    arch: str = "small_convnet"


ROBUST_ROWS: dict[str, RobustRow] = {
    "acl": RobustRow("_acl:Acl"),
    "deacl": RobustRow("_deacl:Deacl"),
    "dynacl": RobustRow("_dynacl:Dynacl"),
    "lipschitz": RobustRow("lipschitz:Lipschitz", arch="lipschitz_convnet"),
    "noise": RobustRow("_noisy_views:NoisyViews"),
    "penalty": RobustRow("_gradient_penalty:GradientPenalty"),
    "rocl": RobustRow("_rocl:Rocl"),
}


def encoder_of(robust: str) -> str:
    """Name the encoder that is trained where none is named.

    Args:
        robust: NAME or NAME:key=value, or nothing.

    Returns:
        A known encoder.
    """
    row = ROBUST_ROWS.get(robust.partition(":")[0].strip())
    return "small_convnet" if row is None else row.arch
