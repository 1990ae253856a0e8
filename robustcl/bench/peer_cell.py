"""Set another package beside this one."""

import os
from typing import Any

import torch

from robustcl.bench.cells import Cell
from robustcl.bench.model_cell import load_model
from robustcl.bench.peers import PEERS
from robustcl.bench.peers.comparison import Scene
from robustcl.bench.place import Place, read_split
from robustcl.bench.suite import Suite
from robustcl.core.choices import Split
from robustcl.data import Dataset
from robustcl.evaluation.manifest import device_name


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

    scene = Scene(
        model=model.to(place.device).eval(),
        test=read("test"),
        train=read("train"),
        device=place.device,
        repeats=suite.repeats,
        batch_size=suite.batch_size,
        seed=cell.seed,
    )
    before = os.getloadavg()[0]
    rows = PEERS[cell.peer](scene)
    machine = {
        "device": device_name(place.device),
        "threads": torch.get_num_threads(),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
    }
    return {"rows": [{"peer": cell.peer, **row.to_dict(), **machine} for row in rows]}
