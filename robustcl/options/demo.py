"""State the options of `certify demo`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Train on digits, certify, attack and report: about a minute, no download.

    Args:
        out: A new folder; robustcl-demo, or the next free name, by default.
        device: cpu, cuda, ...
        batch_size: Images per model call.
        seed: Seed of weights, training, splits and noise.
        json: Write one JSON object on stdout.
        quiet: No progress bars.
    """

    out: Path | None = None
    device: str = "cpu"
    batch_size: int = 128
    seed: int = 0
    json: bool = False
    quiet: bool = False
