"""State the options of `robustcl inspect`."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """Print a checkpoint's description; no code is run on the file's word.

    A network is built only where a Lipschitz constant is claimed, to compute what it really is.

    Args:
        checkpoint: The .safetensors file.
        json: Write one JSON object on stdout.
    """

    checkpoint: tyro.conf.Positional[Path]
    json: bool = False
