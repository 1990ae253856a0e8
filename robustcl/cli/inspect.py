"""Say what is in a checkpoint."""

from dataclasses import asdict

from robustcl.core.terminal import answer, emit
from robustcl.models.architectures import is_factory
from robustcl.models.checkpoint import describe_file, load_checkpoint
from robustcl.options.inspect import InspectOptions
from robustcl.workflows.models import checked_constant, constants_text


def inspect(options: InspectOptions) -> int:
    """Run `robustcl inspect`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    description, tensors, notes = describe_file(options.checkpoint)
    count = sum(tensor.numel() for tensor in tensors.values())
    claimed, computed = description.lipschitz_constant, None
    if claimed is not None and not is_factory(description.architecture):
        computed = checked_constant(load_checkpoint(options.checkpoint).encoder, description)
    if options.json:
        facts = {**asdict(description), "numbers": count, "notes": notes}
        emit(facts if computed is None else {**facts, "computed_constant": computed})
        return 0
    for key, value in asdict(description).items():
        answer(f"{key}: {value}")
    answer(f"numbers: {count:,} in {len(tensors)} tensors")
    for note in notes or ("checksum: right",):
        answer(note)
    if claimed is not None and computed is not None:
        answer(constants_text(claimed, computed))
    return 0
