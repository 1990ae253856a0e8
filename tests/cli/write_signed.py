"""Write what `save_checkpoint` would refuse, with a right checksum."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from robustcl.core.hashes import checksum
from robustcl.models.stored_file import DESCRIPTION_KEY, STORED_CHECKSUM


def write_signed(path: Path, text: str, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors with a description, as it stands in the file, and the checksum of both."""
    save_file(
        dict(tensors),
        path,
        metadata={DESCRIPTION_KEY: text, STORED_CHECKSUM: checksum(text, tensors)},
    )
