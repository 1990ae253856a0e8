"""Commands start without what they do not need yet. Modules are asserted, never a time."""

import json
import subprocess
import sys

PROGRAM = """
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout

HEAVY = {heavy!r}
loaded, codes = {{}}, []

def note(stage):
    loaded[stage] = sorted(name for name in HEAVY if name in sys.modules)

import robustcl
note("package")
from robustcl import cli
with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
    for run, names in ((cli.certify, cli.CERTIFY), (cli.robustcl, cli.ROBUSTCL)):
        codes += [run(["--help"]), *(run([name, "--help"]) for name in names)]
        codes += [run([names[0], "--nonsense"]) - 2]
    note("help")
    codes += [cli.certify(["methods"]), cli.certify(["methods", "--json"])]
note("methods")
environment = [name for name in os.environ if name.startswith(("OMP", "GOMP"))]
import robustcl.cli.run
note("run")
import robustcl.workflows.train, robustcl.workflows.attack, robustcl.workflows.probe
note("others")
names = sorted(name for name in robustcl.__all__ if getattr(robustcl, name) is None)
print(json.dumps([codes, loaded, names, environment]))
"""
LIBRARIES = (
    *("matplotlib", "seaborn", "pandas", "jinja2", "sklearn", "scipy.stats", "scipy.special"),
    *("pyarrow", "torchvision", "pyautoattack", "torch._dynamo", "sympy", "torchattacks", "timm"),
)
HEAVY = ("torch", "numpy", "robustcl.certify", "robustcl.attacks", *LIBRARIES)


def test_what_is_loaded_when() -> None:
    command = [sys.executable, "-c", PROGRAM.format(heavy=HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    codes, loaded, missing, environment = json.loads(done.stdout)
    assert set(codes) == {0} and len(codes) == 21
    assert loaded["package"] == loaded["help"] == loaded["methods"] == []
    assert loaded["run"] == sorted({"torch", "numpy", "robustcl.certify", "robustcl.attacks"})
    assert not set(loaded["others"]) & set(LIBRARIES) - {"scipy.special", "pandas"}
    assert not missing
    assert "OMP_WAIT_POLICY" in environment  # of a command, before torch


def test_python_m_starts_without_torch_too() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "robustcl.certify", "methods", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["methods"]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "robustcl.cli.main" in loaded and "torch" not in loaded
