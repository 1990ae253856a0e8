"""Turn tables of a suite into options of training and of the multi-view study."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.options.multiview import MultiviewOptions
from robustcl.options.recipe_file import check_types
from robustcl.options.train import TrainOptions
from robustcl.studies.metrics import OF_A_STUDY, wants_study
from robustcl.studies.multiview.running import make_plan
from robustcl.workflows.recipes import recipe_of

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


# Of a study, what the runner itself or the suite says.
SAID_BY_SUITE = {
    *("checkpoint", "out", "data", "data_root", "download", "device", "seed", "limit", "resume"),
    *("batch_size", "norm", "eps", "arch", "json", "quiet", "mixed_versions", "classes"),
}
STUDY = {entry.name for entry in fields(MultiviewOptions)} - SAID_BY_SUITE


def study_options(
    study: Mapping[str, Any], *, norm: Norm, eps: float, **said: Any
) -> MultiviewOptions:
    """Turn the table [multiview] into the options of `robustcl multiview`.

    Args:
        study: Options by name; a list stands for its parts with commas between.
        norm: Of the attacks.
        eps: Their budget.
        **said: What the runner says.

    Returns:
        The options, whose plan has been checked.

    Raises:
        InputError: When a value is not usable.
    """
    common: dict[str, Any] = {"data": "digits", "checkpoint": Path(), "out": Path(), **said}
    words = {
        key: ",".join(map(str, value)) if isinstance(value, list) else value
        for key, value in study.items()
    }
    check_types(MultiviewOptions, words, "[multiview]")
    options = MultiviewOptions(**{**common, **words}, norm=norm, eps=str(eps))
    make_plan(options)
    return options


def check_study(
    study: Mapping[str, Any],
    eps: Mapping[Norm, tuple[float, ...]],
    metrics: tuple[str, ...],
) -> None:
    """Refuse options of a study that are not usable, or that no metric asks for.

    Args:
        study: The table [multiview].
        eps: By norm; attacks have the smallest.
        metrics: Of the suite.

    Raises:
        InputError: When something is not usable.
    """
    if study and not wants_study(metrics):
        raise InputError(
            f"[multiview] is there but no metric of a study; add one of {', '.join(OF_A_STUDY)}"
        )
    if wants_study(metrics):
        for norm, budgets in eps.items():
            study_options(study, norm=norm, eps=budgets[0])
