"""Work out the cells of a suite: what is run, in which folder, and after what."""

from dataclasses import dataclass

from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.core.listing import objection_to_name
from robustcl.report.suite_folder import Kind
from robustcl.studies.metrics import wants_audit, wants_calibration, wants_study
from robustcl.studies.suite import Model, Suite


@dataclass(frozen=True)
class Cell:
    """State one cell: a model, a run folder, a calibration table, a study, or a peer.

    Args:
        folder: Under the suite's folder, with '/' between parts.
        kind: What is done there.
        model: The model; for a peer the one that both sides get.
        data: As in the suite.
        seed: Of training, splits and noise.
        needs: Folder of the model's cell; '' for a model itself.
        norm: Of an audit or a study.
        peer: Of a peer.
    """

    folder: str
    kind: Kind
    model: Model
    data: str
    seed: int
    needs: str = ""
    norm: Norm | None = None
    peer: str = ""


def cells(suite: Suite) -> tuple[Cell, ...]:
    """Work out the product of models, data, seeds and norms.

    Certificates and attacks of one model, data set, seed and norm share a run folder, since they
    are about the same images and are put to the test against each other.

    Args:
        suite: The suite.

    Returns:
        The cells; a model stands before what needs it.

    Raises:
        InputError: When two data sets would share a folder.
    """
    names = _folder_names(suite)
    found: list[Cell] = []
    for model in suite.models:
        for data in suite.data:
            for seed in suite.seeds:
                found += _of_one(suite, model, data, seed, f"{model.name}/{names[data]}/{seed}")
    return (*found, *_peer_cells(suite, found))


def _of_one(suite: Suite, model: Model, data: str, seed: int, place: str) -> list[Cell]:
    home = f"{place}/model"
    found = [Cell(home, "model", model, data, seed)]
    if wants_audit(suite.metrics):
        found += [
            Cell(f"{place}/{norm}", "audit", model, data, seed, needs=home, norm=norm)
            for norm in suite.norms
        ]
    if wants_calibration(suite.metrics):
        found.append(Cell(f"{place}/calibration", "calibration", model, data, seed, needs=home))
    if wants_study(suite.metrics):
        found += [
            Cell(f"{place}/views-{norm}", "study", model, data, seed, needs=home, norm=norm)
            for norm in suite.norms
        ]
    return found


def _peer_cells(suite: Suite, found: list[Cell]) -> list[Cell]:
    # Peers compare programs, not models: one model, data set and seed do.
    first = next(cell for cell in found if cell.kind == "model")
    return [
        Cell(f"peers/{peer}", "peer", first.model, first.data, first.seed, first.folder, peer=peer)
        for peer in suite.peers
    ]


def _folder_names(suite: Suite) -> dict[str, str]:
    names = {spec: spec.partition(":")[0] for spec in suite.data}
    for spec, name in names.items():
        objection = objection_to_name(name, longest=100)
        if objection is not None:
            raise InputError(f"the data {spec!r} cannot name a folder: {name!r} {objection}")
    repeated = [spec for spec, name in names.items() if list(names.values()).count(name) > 1]
    if repeated:
        raise InputError(
            f"{' and '.join(map(repr, repeated))} are of one kind and would share a folder; run "
            "the suite once for each, by --data"
        )
    return names
