"""State the options of `robustcl embed`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from robustcl.core.choices import Split
from robustcl.options.model_fields import ModelFields
from robustcl.options.shared import DataOptions


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(ModelFields, DataOptions):
    """Write index, embeddings (unit length), raw norms, labels and class names to an .npz file.

    Labels are the data's own: `class_names` says which is which, and -1 stands where there is none.
    The index is the image's position in the split, also where --limit takes a part of it.

    An embedding that is 0 or not finite has no direction: its row is NaN, and the image is named.

    Args:
        checkpoint: The encoder: a checkpoint of robustcl, or a weight file.
        out: The file, ending in .npz.
        split: train or test.
        overwrite: Replace an existing file.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: Path
    split: Split = "test"
    overwrite: bool = False
