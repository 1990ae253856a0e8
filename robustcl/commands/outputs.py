"""Check where a command's file goes, before anything is computed."""

from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from robustcl.core.errors import InputError
from robustcl.core.output_folder import check_output
from robustcl.models.stored_file import has_description

EMBEDDINGS = {"index", "embeddings", "norms", "labels", "class_names"}  # of `robustcl embed`


def check_checkpoint(path: Path, *, overwrite: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Refuse a path at which a checkpoint cannot be written, or must not.

    Args:
        path: The path.
        overwrite: Whether a checkpoint that is there may be replaced.
        inputs: Files that are not to be replaced.

    Raises:
        InputError: When it does not end in .safetensors, or see `check_output`.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{str(path)!r} does not end in .safetensors; name it so")
    check_output(
        path, overwrite=overwrite, ours=is_ours(has_description), kind="checkpoint", inputs=inputs
    )


def check_embeddings(path: Path, *, overwrite: bool) -> None:
    """Refuse a path at which embeddings cannot be written, or must not.

    Args:
        path: The path.
        overwrite: Whether embeddings that are there may be replaced.

    Raises:
        InputError: When it does not end in .npz, or see `check_output`.
    """
    if path.suffix != ".npz":
        raise InputError(f"{str(path)!r} does not end in .npz; name it so")
    ours = is_ours(_holds_embeddings)
    check_output(path, overwrite=overwrite, ours=ours, kind="file of embeddings")


def refuse_inside_data(out: Path, data: str) -> None:
    """Refuse to write into a folder of images, where a folder more is a class more.

    Args:
        out: What is written.
        data: As `--data` names it.

    Raises:
        InputError: When `out` lies in the folder.
    """
    kind, _, rest = data.partition(":")
    if kind != "imagefolder" or not rest:
        return
    inside = out.resolve()
    text = rest
    while text:  # options follow the path after commas, which it may hold as well
        folder = Path(text)
        if folder.is_dir():
            if inside.is_relative_to(folder.resolve()):
                raise InputError(
                    f"--out {str(out)!r} lies in the data folder {str(folder)!r}, whose images it "
                    "would change; give an --out elsewhere"
                )
            return
        text = text.rpartition(",")[0]


def is_ours(tells: Callable[[Path], bool]) -> Callable[[Path], bool]:
    """Take a file that cannot be read for one that is not ours.

    Args:
        tells: Reads a file and tells whether it is ours.

    Returns:
        The same, without exceptions.
    """

    def without_exceptions(path: Path) -> bool:
        try:
            return tells(path)
        except (OSError, ValueError, OverflowError, MemoryError, BadZipFile):
            return False

    return without_exceptions


def _holds_embeddings(path: Path) -> bool:
    with ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()} == EMBEDDINGS
