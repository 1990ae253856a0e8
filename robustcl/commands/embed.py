"""Write embeddings to a file."""

import numpy as np
import torch

from robustcl.abstained import answered, on_sphere, warn_abstained
from robustcl.commands.load_and_tell import load_and_tell
from robustcl.commands.options import answer, read_data, refuse_existing
from robustcl.errors import InputError
from robustcl.fit_head import embed as compute
from robustcl.options.embed import EmbedOptions


def embed(options: EmbedOptions) -> int:
    """Run `robustcl embed`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When --out does not end in .npz.
    """
    if options.out.suffix != ".npz":
        raise InputError(f"{str(options.out)!r} does not end in .npz; name it so")
    refuse_existing(options.out, overwrite=options.overwrite)
    loaded = load_and_tell(options.checkpoint, arch=options.arch)
    dataset = read_data(options, split=options.split)
    raw = compute(loaded.encoder, dataset, batch_size=options.batch_size, device=options.device)
    norms = torch.linalg.vector_norm(raw.double(), dim=1)
    units = on_sphere(raw.double()).float()
    lost = torch.nonzero(~answered(units))[:, 0].tolist()
    warn_abstained(lost, "no unit vector, so NaN in the file")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.out,
        index=np.arange(len(dataset)) if dataset.rows is None else dataset.rows,
        embeddings=units.numpy(),
        norms=norms.numpy(),
        labels=dataset.labels,
        class_names=np.array(dataset.class_names, dtype=str),
    )
    answer(f"{len(dataset)} embeddings of size {units.shape[1]}: {options.out}")
    return 0
