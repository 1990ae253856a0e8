"""Benchmarks: suites of models, certificates and attacks, and other packages side by side."""

from robustcl.studies.grid import Cell, cells
from robustcl.studies.place import Place
from robustcl.studies.running import run_suite
from robustcl.studies.suite import Model, Suite, load_suite, read_suite, suite_names

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
