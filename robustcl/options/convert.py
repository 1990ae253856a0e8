"""State the options of `robustcl convert`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from robustcl.options.model_fields import ModelFields


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(ModelFields):
    """Make a checkpoint from a weight file (.safetensors, or .pt, .pth, .ckpt, .bin without code).

    What stands before the names of an encoder's tensors (module., backbone., ...) is found by
    names and shapes, and names of other programs are recognised.

    Args:
        weights: The weight file.
        out: The checkpoint, ending in .safetensors.
        head: native takes over the model's own classification layer; by default the encoder alone.
        show_rules: Say of every tensor of the file which one of the network it became.
        allow_partial: Go on where tensors are missing or left over.
        reference: A .npz file with images in [0, 1] and their logits, with which the model is
            compared before it is saved; with --head native.
        overwrite: Replace an existing checkpoint.
        json: Write one JSON object on stdout.
    """

    weights: tyro.conf.Positional[Path]
    out: Path
    head: str | None = None
    show_rules: bool = False
    allow_partial: bool = False
    reference: str | None = None
    overwrite: bool = False
    json: bool = False
