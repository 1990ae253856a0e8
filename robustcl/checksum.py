"""Compute the checksum by which a damaged checkpoint is known."""

import hashlib
import json
from collections.abc import Mapping

from torch import Tensor

from robustcl.network_hash import raw_bytes


def checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Hash a description together with the names, types, shapes and numbers of all tensors.

    All that a reader takes from the file enters, and nothing else: the file may be written again
    in another layout.

    Args:
        text: The description, as it stands in the file.
        tensors: By name.

    Returns:
        SHA-256 in 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, value in [("", None), *sorted(tensors.items())]:
        kind = None if value is None else [str(value.dtype), list(value.shape)]
        content = text.encode() if value is None else raw_bytes(value)
        # Lengths come first, so that two files with the same bytes in other places differ.
        digest.update(json.dumps([name, kind, len(content)]).encode() + b"\n")
        digest.update(content)
    return digest.hexdigest()
