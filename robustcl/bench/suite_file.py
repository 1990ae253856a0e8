"""Declare the keys of a suite's TOML file."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from robustcl.core.choices import Matching, Norm

Whole = Annotated[int, Meta(ge=1)]
Methods = tuple[str, ...] | dict[Norm, tuple[str, ...]]


@dataclass(frozen=True)
class SuiteFile:
    """State a suite as its file does (see `robustcl.bench.suite.Suite`).

    Args:
        question: As in `Suite`; likewise all that is not named here.
        train: Options of `robustcl train` that all models share.
        models: Options of each by its name (see `ModelEntry`).
        certificates: By norm, or for every norm.
        attacks: Likewise.
        eps: By norm; numbers, or texts such as '8/255'.
    """

    question: Annotated[str, Meta(min_length=1)]
    train: dict[str, Any] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    data: tuple[str, ...] = ("digits",)
    seeds: tuple[Annotated[int, Meta(ge=0)], ...] = (0,)
    norms: tuple[Norm, ...] = ("l2",)
    certificates: Methods = ()
    attacks: Methods = ()
    eps: dict[Norm, tuple[float | str, ...]] = field(default_factory=dict)
    corruptions: tuple[str, ...] = ()
    severities: tuple[Annotated[int, Meta(ge=1, le=5)], ...] = (1, 3, 5)
    corrupted_folder: str = ""
    multiview: dict[str, Any] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    repeats: Whole = 7
    limit: Whole | None = None
    batch_size: Whole = 128
    classes: Matching = "names"


@dataclass(frozen=True)
class ModelEntry:
    """State what the table of a model holds besides options of `robustcl train` (see `Model`).

    Args:
        checkpoint: A file; '' where the model is trained.
        head: Head that is fitted anew; '' for none.
    """

    checkpoint: str = ""
    head: Literal["", "prototype", "linear", "knn", "fine_tune"] = ""
