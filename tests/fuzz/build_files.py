"""Build malformed checkpoints, weight files, reproducers, run folders, recipes and suites.

Every function writes files of one kind into a folder, one after another, and yields what is wrong
with each. Each of them is bad input: a command that is given one says so in one line, within
seconds and little memory, and ends with exit code 2. Only `damaged_arrays` are left out by a report
with a sentence, which then ends well.
"""

from tests.fuzz.build_checkpoints import checkpoints, safetensors_files
from tests.fuzz.build_runs import damaged_arrays, run_folders
from tests.fuzz.build_tables import recipes, reproducers, suites
from tests.fuzz.build_weights import weight_files

__all__ = [
    "checkpoints",
    "damaged_arrays",
    "recipes",
    "reproducers",
    "run_folders",
    "safetensors_files",
    "suites",
    "weight_files",
]
