"""Replay a violation that an audit has saved."""

from dataclasses import asdict
from functools import partial

from robustcl.core.errors import InputError
from robustcl.core.last_handler import VIOLATION
from robustcl.core.numbers import norm_name
from robustcl.core.terminal import answer, emit, say
from robustcl.evaluation.reproducer import load_reproducer, replay
from robustcl.options.reproduce import ReproduceOptions
from robustcl.workflows.models import Views, load_and_tell, model_request, with_views


def reproduce(options: ReproduceOptions) -> int:
    """Run `robustcl reproduce`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When the checkpoint has no head.
    """
    found = load_reproducer(options.file)
    loaded, claim = load_and_tell(options.checkpoint, model_request(options)), found.violation
    classifier = loaded.classifier
    if classifier is None:
        raise InputError(f"{str(options.checkpoint)!r} has no head; give the checkpoint of the run")
    if options.views is not None:
        views = Views(options.views, options.count, options.aggregate, claim.seed)
        classifier = with_views(classifier, views, loaded.description, claim.data)
    if not found.sealed:
        made = claim.versions.get("robustcl", "an older version")
        say(f"note: the file was written by robustcl {made} without a checksum")
    outcome = replay(found, classifier)
    tell = partial(answer, json=options.json)
    tell(
        f"image {claim.index} of {claim.data}: {claim.certificate} claimed (deterministic, about "
        f"the model itself) that class {claim.predicted} stays within the {norm_name(claim.norm)} "
        f"radius {claim.certified:.9g}"
    )
    tell(
        f"in float64, the perturbation by {claim.attack} of norm {outcome.norm:.9g} gives class "
        f"{outcome.rival}, whose lead over class {claim.predicted} is {outcome.margin:.3g}"
    )
    tell("the violation is confirmed" if outcome.confirmed else "the violation is not confirmed")
    if options.json:
        emit({**asdict(outcome), "violation": asdict(claim)})
    return VIOLATION if outcome.confirmed else 0
