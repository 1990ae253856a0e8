"""Run a benchmark suite."""

import shlex
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import tyro

from robustcl.bench import Place, Suite, load_suite, run_suite, suite_names
from robustcl.commands.options import answer, check_device, emit, say
from robustcl.commands.outputs import refuse_inside_data
from robustcl.data import Matching
from robustcl.errors import InputError
from robustcl.report.suite_page import write_suite_page
from robustcl.runs.ranks import rank_count

FAILED = 4  # exit code: a cell failed


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Run a suite, cell by cell, and write one page about all its runs.

    Args:
        suite: A suite that is shipped, or a TOML file; 'list' lists those that are shipped.
        out: The folder; bench-SUITE by default.
        resume: Go on with the suite in --out; cells that are done are kept, damaged ones run again.
        mixed_versions: Go on although robustcl or torch is another version; both are recorded.
        data: Instead of the suite's data, as for `robustcl train`; models are trained on its
            training split.
        data_root: Folder of torchvision's data sets.
        download: Download what is missing.
        corrupted: Folder of CIFAR-10-C; the corruptions there take the place of the suite's.
        classes: How classes of data and models are matched, instead of the suite's way: names,
            known or positions, as for `certify run`.
        limit: Use N test images, drawn by seed with the same share of every class, instead of the
            suite's limit.
        device: cpu, cuda, cuda:1, ...
        seed: This seed alone, instead of the suite's seeds.
        json: Write one JSON object on stdout.
        quiet: No progress bars.
    """

    suite: tyro.conf.Positional[str]
    out: Path | None = None
    resume: bool = False
    mixed_versions: bool = False
    data: str | None = None
    data_root: Path | None = None
    download: bool = False
    corrupted: Path | None = None
    classes: Matching | None = None
    limit: int | None = None
    device: str = "cpu"
    seed: int | None = None
    json: bool = False
    quiet: bool = False


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
            sys.stdout.write(f"{name}: {load_suite(name).question}\n")
        return 0
    suite = chosen_suite(options)
    if rank_count() > 1:
        raise InputError("a suite runs in one process; for many, use torchrun -m certify run")
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
    except KeyboardInterrupt:
        say(f"interrupted; go on by the same command and --resume ({place.folder})")
        return 130
    page, beaten = write_suite_page(place.folder)
    count = {status: sum(s.status == status for s in states) for status in ("done", "failed",
                                                                            "skipped")}  # fmt: skip
    tell = partial(answer, json=options.json)
    tell(", ".join(f"{number} {status}" for status, number in count.items() if number))
    tell(f"page: {page}")
    if options.json:
        failed = {state.cell: state.reason for state in states if state.status == "failed"}
        emit({"suite": suite.name, **count, "reasons": failed, "page": str(page)})
    return 1 if beaten else FAILED if count["failed"] else 0


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
