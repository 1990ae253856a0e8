"""Every public name is there, twice, and is what it says."""

import importlib
import types

import pytest

EXPORTING = (
    *("robustcl", "robustcl.attacks", "robustcl.attacks.checks", "robustcl.calibration"),
    *("robustcl.certify", "robustcl.certify.bounds", "robustcl.data", "robustcl.data.views"),
    *("robustcl.evaluation", "robustcl.models.encoders", "robustcl.models.heads"),
    *("robustcl.records", "robustcl.report", "robustcl.studies", "robustcl.studies.peers"),
    *("robustcl.training", "robustcl.training.losses", "robustcl.training.protocols"),
    *("robustcl.training.robust", "robustcl.training.targets"),
)
PACKAGES = ("attacks", "certify", "bounds")


@pytest.mark.parametrize("package", EXPORTING)
def test_public_names(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        first, second = getattr(module, name), getattr(module, name)
        assert first is second
        assert isinstance(first, types.ModuleType) == (name in PACKAGES), name
        described = not isinstance(first, type | types.FunctionType) or first.__doc__
        assert described, name
