"""State the options of `robustcl prompts`."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True)
class PromptsOptions:
    """Compute the text vectors of class names, for classification without labels.

    The folder's own text tower and tokenizer are used; nothing is downloaded.

    Args:
        folder: A local folder of a CLIP or SigLIP model of transformers, or of open_clip.
        classes: A text file with one class name per line.
        out: The file of vectors, ending in .safetensors; `certify run MODEL --prototypes FILE`
            reads it.
        template: Texts with {} where the name goes; the vectors of several are averaged.
        overwrite: Replace an existing file.
        json: Write one JSON object on stdout.
    """

    folder: tyro.conf.Positional[Path]
    classes: str
    out: Path
    template: tuple[str, ...] = ("a photo of a {}",)
    overwrite: bool = False
    json: bool = False
