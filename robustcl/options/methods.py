"""State the options of `certify methods`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MethodsOptions:
    """Print what each certificate claims, and the attacks.

    Args:
        json: Write one JSON object on stdout.
    """

    json: bool = False
