"""Certify and attack the model of a cell."""

import importlib.util
from typing import Any

from robustcl import certify
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import UnsupportedError, ViolationError
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.manifest import Origin
from robustcl.evaluation.measuring import evaluate
from robustcl.records.reading import load_run
from robustcl.records.summary import summarize
from robustcl.report import write_report
from robustcl.studies.cell_kinds.model_cell import load_model
from robustcl.studies.grid import Cell
from robustcl.studies.metrics import run_metrics
from robustcl.studies.place import Place, read_split
from robustcl.studies.suite import FOREIGN, Suite, named_attack


def audit_cell(suite: Suite, cell: Cell, place: Place) -> dict[str, Any]:
    """Write a run folder, with its report.

    What is on disk of the same run is kept. Certificates that do not treat the model, and attacks
    of a package that is absent, are left out, and the state says so.

    Args:
        suite: The suite.
        cell: The audit.
        place: Where the suite is run.

    Returns:
        Entries of the cell's state.

    Raises:
        ViolationError: When an attack beat a deterministic certificate.
    """
    assert cell.norm is not None
    arch = cell.model.training.get("arch")
    model, loaded = load_model(cell.model.checkpoint, arch, place.folder / cell.needs)
    folder = place.folder / cell.folder
    methods, left_out = usable_methods(model, suite.certificates[cell.norm], cell.norm)
    found_attacks, absent = usable_attacks(suite.attacks[cell.norm])
    audit = EvaluationConfig(
        norm=cell.norm,
        methods=methods,
        attacks=found_attacks,
        eps=suite.eps[cell.norm],
        seed=cell.seed,
        batch_size=suite.batch_size,
    )
    evaluate(
        model,
        read_split(
            suite, place, cell.data, split="test", seed=cell.seed, classes=model.class_names
        ),
        audit,
        folder,
        origin=Origin(loaded.hash, place.command),
        device=place.device,
        resume=folder.exists(),
        mixed=place.mixed,
        progress=place.progress,
    )
    write_report(folder)
    summary = summarize(load_run(folder))
    if summary.violations:
        first = summary.violations[0]
        raise ViolationError(
            f"{len(summary.violations)} deterministic certificates were beaten by an attack, first "
            f"image {first['index']}: {first['method']} certified {first['certified']:.6g}, "
            f"{first['attack']} found {first['attacked']:.6g}"
        )
    return {"metrics": run_metrics(suite.metrics, summary), "left_out": {**left_out, **absent}}


def usable_methods(
    model: Classifier, texts: tuple[str, ...], norm: Norm
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Leave out certificates that do not treat the model.

    Args:
        model: The model.
        texts: The certificates.
        norm: 'l2' or 'linf'.

    Returns:
        Those that do, and by name of the others why not.
    """
    usable, left_out = [], {}
    for text in texts:
        try:
            certify.prepare(certify.parse_method(text), model, norm=norm)
            usable.append(text)
        except UnsupportedError as error:
            left_out[text] = str(error)
    return tuple(usable), left_out


def usable_attacks(texts: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Leave out attacks whose package is absent.

    Args:
        texts: The attacks.

    Returns:
        Those that can be run, and by name of the others why not.
    """
    foreign = [text for text in texts if named_attack(text) == FOREIGN]
    if not foreign or importlib.util.find_spec("torchattacks") is not None:
        return texts, {}
    reason = 'torchattacks is not installed; pip install ".[torchattacks]"'
    return tuple(t for t in texts if t not in foreign), dict.fromkeys(foreign, reason)
