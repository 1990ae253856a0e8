"""Run a benchmark suite."""

import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from robustcl.core.errors import InputError
from robustcl.core.last_handler import PART_FAILED, VIOLATION, stop_code
from robustcl.core.terminal import answer, emit, say
from robustcl.options.bench import BenchOptions
from robustcl.records.ranks import rank_count
from robustcl.report.suite_page import write_suite_page
from robustcl.studies import Place, Suite, load_suite, run_suite, suite_names
from robustcl.workflows.data import check_device
from robustcl.workflows.outputs import refuse_inside_data


def bench(options: BenchOptions) -> int:
    """Run `robustcl bench`.

    Args:
        options: The options.

    Returns:
        The exit code: 0; 1 when an attack beat a certificate; 4 when another cell failed.

    Raises:
        InputError: When torchrun started several processes.
    """
    if options.suite == "list":
        for name in suite_names():
            answer(f"{name}: {load_suite(name).question}")
        return 0
    suite = chosen_suite(options)
    if rank_count() > 1:
        raise InputError(
            "a suite runs in one process; for many, use torchrun --no-python certify run"
        )
    check_device(options.device)
    place = Place(
        folder=options.out or Path(f"bench-{suite.name}"),
        device=options.device,
        data_root=options.data_root,
        download=options.download,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        progress=not options.quiet,
        mixed=options.mixed_versions,
    )
    for data in suite.data:
        refuse_inside_data(place.folder, data)
    try:
        states = run_suite(suite, place, resume=options.resume)
    except KeyboardInterrupt as stop:
        say(f"interrupted; go on by the same command and --resume ({place.folder})")
        return stop_code(stop)
    page, beaten = write_suite_page(place.folder)
    count = {status: sum(s.status == status for s in states) for status in ("done", "failed",
                                                                            "skipped")}  # fmt: skip
    tell = partial(answer, json=options.json)
    tell(", ".join(f"{number} {status}" for status, number in count.items() if number))
    tell(f"page: {page}")
    if options.json:
        failed = {state.cell: state.reason for state in states if state.status == "failed"}
        emit({"suite": suite.name, **count, "reasons": failed, "page": str(page)})
    return VIOLATION if beaten else PART_FAILED if count["failed"] else 0


def chosen_suite(options: BenchOptions) -> Suite:
    """Read the suite and put the options of the command line in place of its own.

    Args:
        options: The options.

    Returns:
        The suite.

    Raises:
        InputError: When the limit or the seed is unusable.
    """
    suite = load_suite(options.suite)
    if options.limit is not None:
        if options.limit < 1:
            raise InputError(f"--limit {options.limit} leaves no image; use 1 or more")
        suite = replace(suite, limit=options.limit)
    if options.seed is not None:
        if options.seed < 0:
            raise InputError(f"--seed {options.seed} is negative; use a seed >= 0")
        suite = replace(suite, seeds=(options.seed,))
    if options.data is not None:
        suite = replace(suite, data=(options.data,))
    if options.classes is not None:
        suite = replace(suite, classes=options.classes)
    if options.corrupted is not None:
        suite = replace(suite, corrupted_folder=str(options.corrupted))
    return suite
