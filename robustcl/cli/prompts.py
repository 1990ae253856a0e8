"""Compute the text vectors of class names."""

from robustcl.core.errors import InputError
from robustcl.core.output_folder import check_output
from robustcl.core.terminal import answer, emit
from robustcl.models.text_prototypes import is_prototypes, text_prototypes, write_prototypes
from robustcl.options.prompts import PromptsOptions
from robustcl.workflows.models import names_file
from robustcl.workflows.outputs import is_ours


def prompts(options: PromptsOptions) -> int:
    """Run `robustcl prompts`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When the file does not end in .safetensors.
    """
    if options.out.suffix != ".safetensors":
        raise InputError(f"{str(options.out)!r} does not end in .safetensors; name it so")
    check_output(
        options.out, overwrite=options.overwrite, ours=is_ours(is_prototypes),
        kind="file of prototypes",
    )  # fmt: skip
    names = names_file(options.classes)
    found = text_prototypes(options.folder, names, options.template)
    write_prototypes(options.out, found, options.template)
    size = found.vectors.shape[1]
    answer(
        f"{len(names)} vectors of {size} numbers, logit scale {found.scale:.4g}, bias "
        f"{found.bias:.4g}: {options.out}",
        json=options.json,
    )
    if options.json:
        emit({"out": str(options.out), "classes": len(names), "size": size,
              "logit_scale": found.scale, "logit_bias": found.bias})  # fmt: skip
    return 0
