"""Every public name is there, twice, and is what it says."""

import importlib
import types

import pytest

ROOMS = ["robustcl", "robustcl.attacks", "robustcl.attacks.checks", "robustcl.certify",
         "robustcl.certify.bounds", "robustcl.data",
         "robustcl.models.heads", "robustcl.models.encoders", "robustcl.training.losses", "robustcl.data.views",
         "robustcl.training", "robustcl.training.robust", "robustcl.training.protocols",
         "robustcl.report", "robustcl.training.targets",
         "robustcl.calibration", "robustcl.evaluation", "robustcl.records", "robustcl.studies",
         "robustcl.studies.peers"]  # fmt: skip
PACKAGES = ("attacks", "certify", "bounds")


@pytest.mark.parametrize("room", ROOMS)
def test_public_names(room: str) -> None:
    module = importlib.import_module(room)
    for name in module.__all__:
        first, second = getattr(module, name), getattr(module, name)
        assert first is second
        assert isinstance(first, types.ModuleType) == (name in PACKAGES), name
        described = not isinstance(first, type | types.FunctionType) or first.__doc__
        assert described, name
