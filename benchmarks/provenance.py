"""State how a result was made, without a path of the machine it was made on."""

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def provenance(*, hidden: tuple[str, ...] = ()) -> dict[str, Any]:
    """State the command, versions and threads of this run.

    Args:
        hidden: Values on the command line that name places; each becomes PLACE.

    Returns:
        Plain values for a record.
    """
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    for place in hidden:
        words = [word.replace(place, "PLACE") for word in words]
    return {
        "command": f"python benchmarks/{' '.join(words)}",
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def record(result: dict[str, Any], place: Path | None) -> None:
    """Print a result as one JSON line, and append it to a file.

    Args:
        result: Plain values.
        place: The file, or None.
    """
    line = json.dumps(result)
    print(line, flush=True)
    if place:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("a") as file:
            file.write(line + "\n")
