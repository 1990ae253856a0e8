"""Write embeddings to a file."""

import numpy as np
import torch

from robustcl.core import atomic
from robustcl.core.abstention import answered, on_sphere, warn_abstained
from robustcl.core.terminal import answer
from robustcl.models.heads.fitting import embed_images
from robustcl.options.embed import EmbedOptions
from robustcl.workflows.data import read_data
from robustcl.workflows.models import load_and_tell, model_request
from robustcl.workflows.outputs import check_embeddings, refuse_inside_data


def embed(options: EmbedOptions) -> int:
    """Run `robustcl embed`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When --out does not end in .npz.
    """
    check_embeddings(options.out, overwrite=options.overwrite)
    refuse_inside_data(options.out, options.data)
    loaded = load_and_tell(options.checkpoint, model_request(options))
    dataset = read_data(options, split=options.split, transform=loaded.transform)
    raw = embed_images(
        loaded.encoder, dataset, batch_size=options.batch_size, device=options.device
    )
    norms = torch.linalg.vector_norm(raw.double(), dim=1)
    units = on_sphere(raw.double()).float()
    lost = torch.nonzero(~answered(units))[:, 0].tolist()
    warn_abstained(lost, "no unit vector, so NaN in the file")
    with atomic.writing(options.out) as stream:
        np.savez_compressed(
            stream,
            index=np.arange(len(dataset)) if dataset.rows is None else dataset.rows,
            embeddings=units.numpy(),
            norms=norms.numpy(),
            labels=dataset.labels,
            class_names=np.array(dataset.class_names, dtype=str),
        )
    answer(f"{len(dataset)} embeddings of size {units.shape[1]}: {options.out}")
    return 0
