"""Say what is compared with another package, and how it came out."""

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from robustcl.core.classifier import Classifier
from robustcl.core.errors import RobustclError
from robustcl.data import Dataset
from robustcl.studies.interleaved import interleaved, ratio


class AbsentError(RobustclError):
    """A package to be compared with is not installed; the message says how to get it."""


@dataclass(frozen=True, eq=False)
class ComparisonInputs:
    """Hold what both sides get.

    Args:
        model: The classifier, in eval mode on the device.
        test: Test images.
        train: Training images.
        device: cpu, cuda, ...
        repeats: Turns of each side.
        batch_size: Images per model call.
        seed: Of whatever is drawn.
    """

    model: Classifier
    test: Dataset
    train: Dataset
    device: str = "cpu"
    repeats: int = 7
    batch_size: int = 128
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """Say how two programs did on the same inputs.

    Args:
        task: What both did.
        package: The other package and its version.
        agree: Whether ours is as right as theirs; without that no speed is stated.
        agreement: What was compared, in numbers.
        ratio: Their seconds over ours, median over turns; None where they do not agree.
        low: Lower end of its 95 % interval.
        high: Upper end.
        seconds: Ours, median.
        their_seconds: Theirs.
        clock: 'processor' or 'wall'.
        repeats: Turns.
    """

    task: str
    package: str
    agree: bool
    agreement: str
    ratio: float | None
    low: float | None
    high: float | None
    seconds: float | None
    their_seconds: float | None
    clock: str
    repeats: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def compare_programs(
    inputs: ComparisonInputs,
    task: str,
    package: str,
    *,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    agreement: Callable[[Any, Any], tuple[bool, str]],
    most_repeats: int | None = None,
) -> Comparison:
    """Compare results first, then times, in turn.

    Args:
        inputs: Repeats and device.
        task: What both do.
        package: The other package and its version.
        ours: One way; what it returns is compared.
        theirs: The other.
        agreement: Both results to whether ours is as right as theirs, and the numbers.
        most_repeats: Turns at most, for work that takes long.

    Returns:
        The comparison.
    """
    # The first run of each is the warm-up as well.
    agree, text = agreement(ours(), theirs())
    clock = "wall" if inputs.device.startswith("cuda") else "processor"
    turns = min(inputs.repeats, most_repeats or inputs.repeats)
    empty = (None,) * 5
    if not agree:
        return Comparison(task, package, agree, text, *empty, clock=clock, repeats=0)
    pairs = interleaved(ours, theirs, repeats=turns, device=inputs.device, warm=False)
    found = ratio(pairs, clock=clock)
    return Comparison(
        task=task,
        package=package,
        agree=agree,
        agreement=text,
        ratio=found.median,
        low=found.low,
        high=found.high,
        seconds=found.ours,
        their_seconds=found.theirs,
        clock=clock,
        repeats=turns,
    )


def import_peer(module: str, *, cure: str, variable: str = "") -> Any:
    """Import another package, or say how to get it.

    Args:
        module: Its import name.
        cure: A command or a sentence.
        variable: Environment variable that may name folders to be searched, as in PYTHONPATH.

    Returns:
        The module.

    Raises:
        AbsentError: When it cannot be imported.
    """
    for folder in os.environ.get(variable, "").split(os.pathsep) if variable else ():
        if folder and folder not in sys.path:
            sys.path.append(folder)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise AbsentError(f"no {module.partition('.')[0]} ({error}); {cure}") from error


def named(package: str) -> str:
    """Name a package with its version.

    Args:
        package: Its name in the registry.

    Returns:
        Both, or the name alone for a checkout without a version.
    """
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
