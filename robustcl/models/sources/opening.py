"""Open a model, whatever it was saved as."""

from pathlib import Path

from robustcl.models.checkpoint import Loaded, load_checkpoint
from robustcl.models.sources.folder import open_folder
from robustcl.models.sources.request import ModelRequest
from robustcl.models.sources.weight_file import open_weight_file
from robustcl.models.weights.reading import is_checkpoint


def open_model(model: str | Path, request: ModelRequest | None = None) -> Loaded:
    """Open a checkpoint of robustcl, a weight file of another program, or the folder of a model.

    Nothing is unpickled, and no code that a file names is run.

    Args:
        model: The file or folder.
        request: What the user says about it; nothing by default.

    Returns:
        The encoder, and the classifier where there is a head.

    Raises:
        CheckpointError: When it cannot be read.
        InputError: When what is said about it does not fit.
    """
    asked = request or ModelRequest()
    place = Path(model)
    if not place.exists() or is_checkpoint(place):
        asked.refuse_beside(f"{str(place)!r} is a checkpoint", but=("arch",))
        return load_checkpoint(place, arch=asked.arch)
    if place.is_dir():
        return open_folder(place, asked)
    return open_weight_file(place, asked)
