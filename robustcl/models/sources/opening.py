"""Open a model, whatever it was saved as."""

from pathlib import Path

from robustcl.models.architectures import is_factory
from robustcl.models.checkpoint import Loaded, load_checkpoint
from robustcl.models.sources.code import open_code
from robustcl.models.sources.folder import open_folder
from robustcl.models.sources.request import ModelRequest
from robustcl.models.sources.weight_file import open_weight_file
from robustcl.models.weights.reading import is_checkpoint


def open_model(model: str | Path, request: ModelRequest | None = None) -> Loaded:
    """Open a checkpoint of robustcl, a weight file, the folder of a model, or code of the user.

    Nothing is unpickled, and no code that a file names is run.

    Args:
        model: The file or folder; or 'FILE.py:factory' or 'package.module:factory', typed by the
            user, which is run.
        request: What the user says about it; nothing by default.

    Returns:
        The encoder, and the classifier where there is a head.

    Raises:
        CheckpointError: When it cannot be read.
        InputError: When what is said about it does not fit.
    """
    asked = request or ModelRequest()
    place = Path(model)
    if is_factory(str(model)) and not place.exists():
        return open_code(str(model), asked)
    if not place.exists() or is_checkpoint(place):
        asked.refuse_beside(f"{str(place)!r} is a checkpoint", but=("arch",))
        return load_checkpoint(place, arch=asked.arch)
    if place.is_dir():
        return open_folder(place, asked)
    return open_weight_file(place, asked)
