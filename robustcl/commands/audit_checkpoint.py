"""Measure a checkpoint, for the commands that end with records."""

import math
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path

from robustcl.auditing.audit import Audit
from robustcl.auditing.evaluate import evaluate
from robustcl.auditing.manifest import Origin
from robustcl.auditing.plan import plan
from robustcl.checkpoint import Loaded, load_checkpoint
from robustcl.classifier import Classifier
from robustcl.commands.claimed_constant import checked_constant
from robustcl.commands.options import AuditOptions, emit, read_data, say
from robustcl.commands.viewed import Views, viewed
from robustcl.data import Dataset
from robustcl.errors import InputError
from robustcl.runs.ranks import own_device, rank, rank_count


def load_with_head(options: AuditOptions) -> tuple[Classifier, Loaded]:
    """Load a checkpoint that has a head.

    Args:
        options: The options.

    Returns:
        The classifier, with the views asked for, and what else is in the checkpoint.

    Raises:
        InputError: When it has no head.
    """
    loaded = load_checkpoint(options.checkpoint, arch=options.arch)
    if loaded.classifier is None:
        raise InputError(
            f"{str(options.checkpoint)!r} has no head; fit one by: robustcl probe "
            f"{options.checkpoint} --data {options.data} --out CKPT"
        )
    checked_constant(loaded.encoder, loaded.description)
    if options.views is None:
        return loaded.classifier, loaded
    views = Views(options.views, options.count, options.aggregate, options.seed)
    return viewed(loaded.classifier, views, loaded.description, options.data), loaded


def views_text(options: AuditOptions) -> str:
    """Name the views in a manifest.

    Args:
        options: The options.

    Returns:
        Family, count, aggregate and seed, or '' for one plain view.
    """
    if options.views is None:
        return ""
    return str(Views(options.views, options.count, options.aggregate, options.seed))


def audit_checkpoint(
    options: AuditOptions, audit: Audit, classifier: Classifier, checkpoint_hash: str
) -> int | None:
    """Measure a classifier and write the records.

    Under torchrun every process measures its share of the images.

    Args:
        options: The options.
        audit: What is measured.
        classifier: The model.
        checkpoint_hash: SHA-256 of its checkpoint.

    Returns:
        None where the run is complete and this process's to report, else an exit code: 130 when
        it was interrupted, 0 when other processes are still at work or only a plan was wanted.
    """
    device = own_device(options.device)
    dataset = read_data(replace(options, device=device), split=options.split)
    if options.plan is not None:
        return _tell(options, dataset, audit, classifier, device)
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    try:
        complete = evaluate(
            classifier,
            dataset,
            audit,
            options.out,
            origin=Origin(checkpoint_hash, command),
            device=device,
            resume=options.resume,
            mixed=options.mixed_versions,
            progress=not options.quiet and rank() == 0,
        )
    except KeyboardInterrupt:
        again = command if options.resume else f"{command} --resume"
        say(f"interrupted; the records in {options.out} are whole. Go on by: {again}")
        return 130
    if complete:
        return None
    say(f"process {rank()} of {rank_count()}: its share is done; the last one writes the report")
    return 0


def _tell(
    options: AuditOptions, dataset: Dataset, audit: Audit, classifier: Classifier, device: str
) -> int:
    if options.plan is None or options.plan < 1:
        raise InputError(f"--plan {options.plan} is no number of processes; use 1 or more")
    found = plan(classifier, dataset, audit, device=device, processes=options.plan)
    say(f"{'measure':44} {'seconds per image':>24} {'hours in all':>13}")
    for cost in found.costs:
        error = "" if math.isinf(cost.error) else f" ± {cost.error:.2g}"
        whole = cost.seconds * found.images / found.processes / 3600
        say(f"{cost.method:44} {f'{cost.seconds:.3g}{error}':>24} {whole:>13.3g}")
    say(
        f"{found.images:,} images on {found.processes} processes like this one: about "
        f"{found.seconds / 3600:.3g} hours ({found.seconds:.0f} s), from {found.measured} images"
    )
    if options.json:
        emit({**asdict(found), "seconds": found.seconds})
    return 0
