"""Benchmarks: suites of models, certificates and attacks, and other packages side by side."""

from robustcl.bench.cells import Cell, cells
from robustcl.bench.place import Place
from robustcl.bench.run_suite import run_suite
from robustcl.bench.suite import Model, Suite, load_suite, read_suite, suite_names

__all__ = [
    "Cell",
    "Model",
    "Place",
    "Suite",
    "cells",
    "load_suite",
    "read_suite",
    "run_suite",
    "suite_names",
]
