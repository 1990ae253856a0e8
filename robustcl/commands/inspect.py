"""Say what is in a checkpoint."""

from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from robustcl.checkpoint import read_description
from robustcl.commands.options import emit, say


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """Print a checkpoint's description; no network is built and no code is run.

    Args:
        checkpoint: The .safetensors file.
        json: Write one JSON object on stdout.
    """

    checkpoint: tyro.conf.Positional[Path]
    json: bool = False


def inspect(options: InspectOptions) -> int:
    """Run `robustcl inspect`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    description, tensors = read_description(options.checkpoint)
    count = sum(tensor.numel() for tensor in tensors.values())
    if options.json:
        emit({**asdict(description), "numbers": count})
        return 0
    for key, value in asdict(description).items():
        say(f"{key}: {value}")
    say(f"numbers: {count:,} in {len(tensors)} tensors")
    return 0
