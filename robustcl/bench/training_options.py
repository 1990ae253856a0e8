"""Read the options of `robustcl train` in a suite."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from robustcl.commands.train_options import recipe_of
from robustcl.options.recipe_file import check_types
from robustcl.options.train import TrainOptions

# Of a training run, what the runner itself says.
SAID_BY_RUNNER = {
    *("data", "data_root", "download", "device", "seed", "out", "recipe", "resume", "overwrite"),
    *("json", "quiet", "tensorboard"),
}
TRAINING = {entry.name for entry in fields(TrainOptions)} - SAID_BY_RUNNER


def training_options(training: Mapping[str, Any], *, data: str, out: Path) -> TrainOptions:
    """Turn a model's table into the options of `robustcl train`, and check them.

    Args:
        training: Options by name.
        data: The data.
        out: The checkpoint.

    Returns:
        The options.

    Raises:
        InputError: When a value is not usable.
    """
    check_types(TrainOptions, training, "training options")
    options = TrainOptions(data=data, out=out, quiet=True, **training)
    recipe_of(options)
    return options
