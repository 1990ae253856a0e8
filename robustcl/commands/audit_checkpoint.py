"""Measure a checkpoint, for the commands that end with records."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from robustcl.auditing.audit import Audit
from robustcl.auditing.evaluate import evaluate
from robustcl.auditing.manifest import Origin
from robustcl.checkpoint import Loaded, load_checkpoint
from robustcl.classifier import Classifier
from robustcl.commands.options import AuditOptions, read_data, say
from robustcl.errors import InputError
from robustcl.runs.ranks import own_device, rank, rank_count


def load_with_head(options: AuditOptions) -> tuple[Classifier, Loaded]:
    """Load a checkpoint that has a head.

    Args:
        options: The options.

    Returns:
        The classifier, and what else is in the checkpoint.

    Raises:
        InputError: When it has no head.
    """
    loaded = load_checkpoint(options.checkpoint, arch=options.arch)
    if loaded.classifier is None:
        raise InputError(
            f"{str(options.checkpoint)!r} has no head; fit one by: robustcl probe "
            f"{options.checkpoint} --data {options.data} --out CKPT"
        )
    return loaded.classifier, loaded


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
        it was interrupted, 0 when other processes are still at work.
    """
    device = own_device(options.device)
    dataset = read_data(replace(options, device=device), split=options.split)
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
