"""Declare where data comes from: one row per source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceRow:
    """Describe a source of data.

    Args:
        home: MODULE:FUNCTION in `data`, which lists its images: it takes those of `path`, `name`,
            `split`, `size`, `seed`, `whole`, `root` and `download` that it needs, by name.
        takes: Options that may follow a path; None for a source without one.
    """

    home: str
    takes: tuple[str, ...] | None = None


SOURCE_ROWS: dict[str, SourceRow] = {
    "digits": SourceRow("_digits:list_digits"),
    "cifar10": SourceRow("_torchvision:list_torchvision"),
    "cifar100": SourceRow("_torchvision:list_torchvision"),
    "mnist": SourceRow("_torchvision:list_torchvision"),
    "fashion-mnist": SourceRow("_torchvision:list_torchvision"),
    "svhn": SourceRow("_torchvision:list_torchvision"),
    "stl10": SourceRow("_torchvision:list_torchvision"),
    "imagefolder": SourceRow("_imagefolder:list_imagefolder", ("size", "split")),
    "parquet": SourceRow("_parquet:list_parquet", ("size", "split")),
    "npz": SourceRow("_npz:list_npz", ("split",)),
}
