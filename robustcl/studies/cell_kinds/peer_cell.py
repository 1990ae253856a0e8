"""Set another package beside this one."""

import os
from typing import Any

import torch

from robustcl.core.choices import Split
from robustcl.data import Dataset
from robustcl.evaluation.manifest import device_name
from robustcl.studies.cell_kinds.model_cell import load_model
from robustcl.studies.grid import Cell
from robustcl.studies.peers import PEERS
from robustcl.studies.peers.comparison import ComparisonInputs
from robustcl.studies.place import Place, read_split
from robustcl.studies.suite import Suite


def peer_cell(suite: Suite, cell: Cell, place: Place) -> dict[str, Any]:
    """Run a peer and this toolkit on the same inputs, in turn.

    Args:
        suite: The suite.
        cell: The peer.
        place: Where the suite is run.

    Returns:
        Entries of the cell's state: one row per comparison.
    """
    arch = cell.model.training.get("arch")
    model, _ = load_model(cell.model.checkpoint, arch, place.folder / cell.needs)
    names = model.class_names

    def read(split: Split) -> Dataset:
        return read_split(suite, place, cell.data, split=split, seed=cell.seed, classes=names)

    inputs = ComparisonInputs(
        model=model.to(place.device).eval(),
        test=read("test"),
        train=read("train"),
        device=place.device,
        repeats=suite.repeats,
        batch_size=suite.batch_size,
        seed=cell.seed,
    )
    before = os.getloadavg()[0]
    rows = PEERS[cell.peer](inputs)
    machine = {
        "device": device_name(place.device),
        "threads": torch.get_num_threads(),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
    }
    return {"rows": [{"peer": cell.peer, **row.to_dict(), **machine} for row in rows]}
