"""In a folder with modules named attacks and certify everything works, and none of them is run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRAP = "raise SystemExit('the module of the folder was imported')\n"
LIBRARY = """
import sys
from robustcl import attacks, certify
from robustcl.certify.bounds import network_lipschitz_bound
assert attacks.__name__ == "robustcl.attacks" and callable(certify.product)
assert callable(network_lipschitz_bound)
assert not {"attacks", "certify"} & sys.modules.keys(), sys.modules["certify"]
print(certify.__file__)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("attacks", "certify"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    return tmp_path


def ended(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environment
    )


def test_the_library(folder: Path) -> None:
    done = ended(folder, "-c", LIBRARY)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).resolve() == ROOT / "certify" / "__init__.py"


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "robustcl.certify", "methods", "--json"),
        ("-m", "robustcl", "doctor", "--help"),
        ("-c", "from robustcl.cli.main import certify; raise SystemExit(certify(['methods']))"),
    ],
)
def test_commands(folder: Path, words: tuple[str, ...]) -> None:
    done = ended(folder, *words)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
