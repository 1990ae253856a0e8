"""State the options of `robustcl reproduce`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from robustcl.core.choices import Aggregate
from robustcl.options.model_fields import ModelFields


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(ModelFields):
    """Replay a violation in float64; exit code 1 when it is confirmed, 0 when it is not.

    Args:
        file: A file of OUT/violations.
        checkpoint: The model it was found on; another network is refused (exit code 2).
        views: As in the run, for a multi-view model.
        count: Likewise.
        aggregate: Likewise.
        json: Write one JSON object on stdout.
    """

    file: tyro.conf.Positional[Path]
    checkpoint: Path
    views: str | None = None
    count: int = 8
    aggregate: Aggregate = "score"
    json: bool = False
