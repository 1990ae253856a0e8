"""Run a suite cell by cell; what has ended is not repeated."""

import contextlib
import errno
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from robustcl.core.choices import Draw
from robustcl.core.errors import RobustclError, RunError
from robustcl.core.locks import session_lock
from robustcl.core.output_folder import OutputFolder
from robustcl.core.terminal import say
from robustcl.evaluation.manifest import device_name, package_versions
from robustcl.records.json_file import write_sealed
from robustcl.records.reading import SCHEMA, config_hash, load_run, read_manifest
from robustcl.records.sessions import compare_sessions, new_session, sessions_of
from robustcl.records.study_file import read_study
from robustcl.report.suite_folder import MODEL_FAILED, CellState, Kind, read_cell
from robustcl.studies.cell_kinds.audit_cell import audit_cell
from robustcl.studies.cell_kinds.calibration_cell import calibration_cell
from robustcl.studies.cell_kinds.model_cell import load_model, model_cell
from robustcl.studies.cell_kinds.peer_cell import peer_cell
from robustcl.studies.cell_kinds.state import load_cell, save_cell
from robustcl.studies.cell_kinds.study_cell import study_cell
from robustcl.studies.grid import Cell, cells
from robustcl.studies.peers.comparison import AbsentError
from robustcl.studies.place import Place
from robustcl.studies.suite import Suite

RUNNERS: Mapping[Kind, Callable[[Suite, Cell, Place], dict[str, Any]]] = {
    "model": model_cell,
    "audit": audit_cell,
    "calibration": calibration_cell,
    "study": study_cell,
    "peer": peer_cell,
}

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def run_suite(suite: Suite, place: Place, *, resume: bool = False) -> tuple[CellState, ...]:
    """Run every cell that has not ended well, in order.

    A cell that fails is recorded with its reason and does not stop the others, except those that
    need its model. An interrupted suite goes on with `resume`: cells that are done are kept, a cell
    that was cut goes on from its own records or state, failed and skipped ones are tried again.

    Args:
        suite: The suite.
        place: Where it is run.
        resume: Whether to go on with the same suite in the folder.

    Returns:
        How each cell ended.

    Raises:
        RunError: When the folder is not usable, or holds another suite, or one and `resume` is off,
            or one of other versions of robustcl or torch and the place is not mixed.
    """
    wanted = cells(suite)
    ended = any((place.folder / cell.folder / "cell.json").is_file() for cell in wanted)
    OutputFolder(place.folder).check_start(begun=ended)
    with session_lock(place.folder / ".session-0", repr(str(place.folder))):
        return _run(suite, wanted, place, resume=resume)


def _run(
    suite: Suite, wanted: tuple[Cell, ...], place: Place, *, resume: bool
) -> tuple[CellState, ...]:
    begun = time.monotonic()
    place = replace(place, draw=_start(suite, wanted, place, resume=resume))
    states: dict[str, CellState] = {}
    for number, cell in enumerate(wanted, start=1):
        before = load_cell(place.folder, cell.folder)
        if before is not None and before.status == "done" and _is_whole(cell, place):
            states[cell.folder] = before
            continue
        say(f"[{number}/{len(wanted)}] {cell.folder}")
        state = _ended(suite, cell, place, states)
        save_cell(place.folder, state, place.device)
        states[cell.folder] = state
        if state.status != "done":
            say(f"{state.status}: {state.reason}")
        for name, reason in state.left_out.items():
            say(f"left out {name}: {reason}")
    _finish(place, time.monotonic() - begun)
    return tuple(states.values())


def _is_whole(cell: Cell, place: Place) -> bool:
    # What a cell left may be damaged since; running it again mends it.
    folder = place.folder / cell.folder
    try:
        if cell.kind == "model":
            arch = cell.model.training.get("arch")
            load_model(cell.model.checkpoint, arch, folder)
        elif cell.kind == "audit":
            load_run(folder)
        elif cell.kind == "study":
            read_study(folder)
    except RobustclError as error:
        say(f"{error}: the cell is run again")
        return False
    return True


def _ended(suite: Suite, cell: Cell, place: Place, states: Mapping[str, CellState]) -> CellState:
    about = {"model": cell.model.name, "data": cell.data, "seed": cell.seed}
    about |= {"norm": cell.norm} if cell.norm else {}
    about |= {"peer": cell.peer} if cell.peer else {}
    common = {"cell": cell.folder, "kind": cell.kind, "about": about}
    if cell.needs and states[cell.needs].status != "done":
        return CellState(**common, status="failed", reason=f"{MODEL_FAILED}: {cell.needs}")
    begun = time.monotonic()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the suite's own answer
            found = RUNNERS[cell.kind](suite, cell, place)
    except AbsentError as error:
        return CellState(**common, status="skipped", reason=str(error))
    except Exception as error:  # the others must run, and the reason is on record
        if isinstance(error, OSError) and error.errno in DISK:
            raise  # no other cell could end either
        seconds = time.monotonic() - begun
        reason = f"{type(error).__name__}: {error}"
        return CellState(**common, status="failed", reason=reason, seconds=seconds)
    return CellState(**common, status="done", seconds=time.monotonic() - begun, **found)


def _start(suite: Suite, wanted: tuple[Cell, ...], place: Place, *, resume: bool) -> Draw:
    # Returns how images are drawn: a suite that an older version began goes on with its own rule.
    file, config = place.folder / "manifest.json", suite.to_dict()
    stated = {
        "schema": SCHEMA,
        "suite": suite.name,
        "question": suite.question,
        "config": config,
        "config_hash": config_hash(config),
        "cells": [cell.folder for cell in wanted],
        "command": place.command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": package_versions(),
        "device": device_name(place.device),
        "draw": "stratified",
        "seconds": 0.0,
        "complete": False,
    }
    own = new_session(stated)
    if not file.exists():
        write_sealed(file, {**stated, "sessions": [own]})
        return "stratified"
    if not resume:
        raise RunError(
            f"{str(place.folder)!r} already holds a suite or run; add --resume to go on with it, "
            "or give a new --out"
        )
    found = _read_or_restored(place, stated)
    if found.get("config_hash") != stated["config_hash"]:
        raise RunError(
            f"{str(place.folder)!r} holds another suite ({_difference(found, config)}); give a "
            "new --out, or repeat its options"
        )
    sessions = sessions_of(found)
    for line in compare_sessions(str(place.folder), sessions, own, mixed=place.mixed):
        say(line)
    write_sealed(file, {**found, "sessions": [*sessions, own]})
    return "stratified" if found.get("draw") == "stratified" else "first"


def _read_or_restored(place: Place, stated: dict[str, Any]) -> dict[str, Any]:
    # A damaged manifest is written again where a cell says that it belongs to the same suite.
    file = place.folder / "manifest.json"
    try:
        return read_manifest(place.folder)
    except RunError as error:
        for cell in stated["cells"]:
            try:
                read_cell(place.folder, cell, stated)
            except RunError:
                continue
            if (place.folder / cell / "cell.json").is_file():
                output = OutputFolder(place.folder)
                output.adopt()  # a cell has just said that the folder is of this suite
                kept = place.folder / output.set_aside(file.name, "manifest.damaged.json")
                say(f"{error}: it is written again; the old one is {str(kept)!r}")
                return {**stated, "sessions": [{"begun": "not known"}]}
        raise RunError(
            f"{error}; but no cell in the folder is known to be of this suite: give a new --out"
        ) from error


def _finish(place: Place, seconds: float) -> None:
    manifest = read_manifest(place.folder)
    total = float(manifest.get("seconds") or 0.0) + seconds
    content = {**manifest, "seconds": total, "complete": True}
    write_sealed(place.folder / "manifest.json", content)


def _difference(found: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    # As JSON gives them back: tuples are lists there.
    before = found.get("config", {})
    changed = (key for key in sorted({*before, *config}) if not _same(before, config, key))
    key = next(changed, "name")
    return f"its {key} is {before.get(key)!r}, not {config.get(key)!r}"


def _same(before: Mapping[str, Any], config: Mapping[str, Any], key: str) -> bool:
    return config_hash({key: before.get(key)}) == config_hash({key: config.get(key)})
