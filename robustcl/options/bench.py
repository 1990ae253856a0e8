"""State the options of `robustcl bench`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from robustcl.core.choices import Matching


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Run a suite, cell by cell, and write one page about all its runs.

    Args:
        suite: A suite that is shipped, or a TOML file; 'list' lists those that are shipped.
        out: The folder: new, empty, or that of a suite; bench-SUITE by default.
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
