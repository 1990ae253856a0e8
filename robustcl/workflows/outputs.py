"""Check where a command writes, and end it with figures and gates."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from robustcl.core.errors import InputError, ViolationError
from robustcl.core.output_folder import check_output
from robustcl.core.specification import parse_number
from robustcl.core.terminal import answer, emit, say
from robustcl.declarations.sources import SOURCE_ROWS
from robustcl.models.stored_file import has_description
from robustcl.records.reading import load_run
from robustcl.records.summary import Summary, interval95, summarize
from robustcl.report.headline import (
    clean_sentence,
    estimate_sentences,
    headline,
    method_sentences,
    reference_sentence,
)

EMBEDDINGS = {"index", "embeddings", "norms", "labels", "class_names"}  # of `robustcl embed`


def check_checkpoint(path: Path, *, overwrite: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Refuse a path at which a checkpoint cannot be written, or must not.

    Args:
        path: The path.
        overwrite: Whether a checkpoint that is there may be replaced.
        inputs: Files that are not to be replaced.

    Raises:
        InputError: When it does not end in .safetensors, or see `check_output`.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{str(path)!r} does not end in .safetensors; name it so")
    check_output(
        path, overwrite=overwrite, ours=is_ours(has_description), kind="checkpoint", inputs=inputs
    )


def check_embeddings(path: Path, *, overwrite: bool) -> None:
    """Refuse a path at which embeddings cannot be written, or must not.

    Args:
        path: The path.
        overwrite: Whether embeddings that are there may be replaced.

    Raises:
        InputError: When it does not end in .npz, or see `check_output`.
    """
    if path.suffix != ".npz":
        raise InputError(f"{str(path)!r} does not end in .npz; name it so")
    ours = is_ours(_holds_embeddings)
    check_output(path, overwrite=overwrite, ours=ours, kind="file of embeddings")


def refuse_inside_data(out: Path, data: str) -> None:
    """Refuse to write into a folder of images, where a folder more is a class more.

    Args:
        out: What is written.
        data: As `--data` names it.

    Raises:
        InputError: When `out` lies in the folder.
    """
    kind, colon, rest = data.partition(":")
    if not (colon and kind in SOURCE_ROWS):
        rest = data  # a path alone, whose content tells what it is
    elif kind != "imagefolder" or not rest:
        return
    inside = out.resolve()
    text = rest
    while text:  # options follow the path after commas, which it may hold as well
        folder = Path(text)
        if folder.is_dir():
            if inside.is_relative_to(folder.resolve()):
                raise InputError(
                    f"--out {str(out)!r} lies in the data folder {str(folder)!r}, whose images it "
                    "would change; give an --out elsewhere"
                )
            return
        text = text.rpartition(",")[0]


def is_ours(tells: Callable[[Path], bool]) -> Callable[[Path], bool]:
    """Take a file that cannot be read for one that is not ours.

    Args:
        tells: Reads a file and tells whether it is ours.

    Returns:
        The same, without exceptions.
    """

    def without_exceptions(path: Path) -> bool:
        try:
            return tells(path)
        except (OSError, ValueError, OverflowError, MemoryError, BadZipFile):
            return False

    return without_exceptions


def _holds_embeddings(path: Path) -> bool:
    with ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()} == EMBEDDINGS


_GATE = re.compile(
    r"(certified_accuracy|attacked_accuracy|clean_accuracy)(?:@([\d./]+))?>=([\d.]+)"
)


def parse_gate(text: str) -> tuple[str, float, float]:
    """Read a gate such as 'certified_accuracy@0.25>=0.5'.

    Args:
        text: The gate.

    Returns:
        Name, radius (0 for clean accuracy) and least value.

    Raises:
        InputError: When the text is not of that form.
    """
    match = _GATE.fullmatch(text.replace(" ", ""))
    if match is None or (match[2] is None and match[1] != "clean_accuracy"):
        raise InputError(
            f"cannot read the gate {text!r}; write 'certified_accuracy@0.25>=0.5' or "
            "'clean_accuracy>=0.9'"
        )
    return match[1], parse_number(match[2] or "0"), parse_number(match[3])


def finish(
    folder: Path,
    *,
    json: bool,
    require: Sequence[str] = (),
    also: Mapping[str, Any] | None = None,
    lines: Sequence[str] = (),
    fresh: bool = False,
) -> int:
    """Write the report, say the headline, and check violations and gates.

    Args:
        folder: The run folder.
        json: Whether to write the summary on stdout.
        require: Gates; those of a run within minutes are held against the lower end of the 95 %
            interval, whoever asks.
        also: Further entries of the JSON object.
        lines: Further sentences, said after the clean accuracy.
        fresh: Whether the run was made just now, and what its data notes has been said.

    Returns:
        The exit code: 0, or 3 when a gate is missed; an incomplete run misses every gate.

    Raises:
        ViolationError: When an attack beat a deterministic certificate; the report is written
            nevertheless.
    """
    from robustcl.report.page import write_run_page  # Matplotlib is slow to import

    tell = partial(answer, json=json)
    run = load_run(folder)
    summary, flags = summarize(run), run.manifest.get("flags") or []
    known = {str(note) for note in run.manifest.get("data_notes") or ()} if fresh else set()
    for note in (note for note in run.notes if note not in known):
        say(f"note: {note}")
    page = write_run_page(run, summary)
    known, doubtful = reference_sentence(run, summary)
    known = f"{'warning: ' if doubtful else ''}{known}"
    sentences = (clean_sentence(summary), *filter(None, (known, *lines)), headline(summary))
    for sentence in (*sentences, *method_sentences(summary), *estimate_sentences(summary)):
        tell(sentence)
    if flags:
        tell(f"flags raised by the model: {', '.join(flag['name'] for flag in flags)}")
    tell(_of_violations(summary))
    tell(f"report: {page}")
    if json:
        emit({**summary.to_dict(), "flags": flags, **(also or {}), "report": str(page)})
    if summary.violations:
        first = summary.violations[0]
        raise ViolationError(
            f"{len(summary.violations)} deterministic certificates about the model were beaten by "
            f"an attack, first image {first['index']}: {first['method']} certified the "
            f"{summary.norm} radius {first['certified']:.6g}, {first['attack']} found "
            f"{first['attacked']:.6g}; "
            "one of the two is wrong"
        )
    if require and not run.manifest.get("complete"):
        tell("missed: every gate, as the run is not complete; go on with it by --resume")
        return 3
    lower = bool(run.manifest.get("prefixes"))
    value_of = _lower_end if lower else _value
    judged = [(gate, value_of(summary, gate), parse_gate(gate)[2]) for gate in require]
    missed = [(gate, value) for gate, value, least in judged if value is None or value < least]
    for gate, value in missed:
        what = "the lower end of its 95 % interval is" if lower else "it is"
        found = "it is not measured" if value is None else f"{what} {value:.4f}"
        tell(f"missed: {gate}, {found}")
    return 3 if missed else 0


def _of_violations(summary: Summary) -> str:
    balls = (summary.certified_balls or {}).get("n", 0)
    if not (summary.pairs or balls or summary.violations):
        return (
            "violations: not looked for, as no image has both a deterministic certificate and a "
            "perturbation that was found"
        )
    tried = [f"{summary.pairs:,} pairs"] if summary.pairs or not balls else []
    tried += [f"{balls:,} certified balls attacked from within"] if balls else []
    return f"violations: {len(summary.violations)} of {' and '.join(tried)}"


def accuracy_at(curve: Sequence[Sequence[float]], radius: float) -> float:
    """Read a curve at a radius, from the nearest point at or beyond it.

    Args:
        curve: [radius, accuracy] points, ascending in radius.
        radius: Where to read.

    Returns:
        The accuracy there, never above the true one; 0 beyond the curve.
    """
    return next((float(value) for at, value in curve if at >= radius * (1 - 1e-9)), 0.0)


def _lower_end(summary: Summary, gate: str) -> float | None:
    value = _value(summary, gate)
    name = parse_gate(gate)[0]
    counts = {"certified_accuracy": summary.certified_n, "attacked_accuracy": summary.attacked_n}
    n = counts.get(name, summary.n)
    return None if value is None else interval95(round(value * n), n)[0]


def _value(summary: Summary, gate: str) -> float | None:
    name, radius, _ = parse_gate(gate)
    if name == "clean_accuracy" or not summary.labeled:
        return summary.clean_accuracy
    curve = getattr(summary, name)
    return accuracy_at(curve, radius) if curve else None
