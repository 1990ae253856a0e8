"""Declare where data comes from: one row per source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceRow:
    """Describe a source of data.

    Args:
        home: MODULE:FUNCTION in `data`, which lists its images: it takes those of `path`, `name`,
            `split`, `transform`, `seed`, `whole`, `labels`, `strict`, `root` and `download` that it
            needs, by name.
        takes: Options of its own that may follow a path, beside those of every source; None for a
            source without a path.
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
    "imagefolder": SourceRow("_imagefolder:list_imagefolder", ("split", "labels")),
    "parquet": SourceRow("_parquet:list_parquet", ("split",)),
    "npz": SourceRow("_npz:list_npz", ("split",)),
    "hub": SourceRow("_hub:list_hub", ("split",)),
    "webdataset": SourceRow("_webdataset:list_webdataset", ("split",)),
}
