"""Data: one file per source; every source yields a `Dataset` of images in [0, 1]."""

from robustcl.data._digits import digits
from robustcl.data._imagefolder import imagefolder
from robustcl.data._npz import npz
from robustcl.data._parquet import parquet
from robustcl.data._torchvision import torchvision_data
from robustcl.data.class_names import match_classes
from robustcl.data.dataset import Batch, Dataset
from robustcl.data.loading import SOURCES, load_data
from robustcl.data.splits import stratified_split
from robustcl.data.subsets import label_subset

__all__ = [
    "SOURCES",
    "Batch",
    "Dataset",
    "digits",
    "imagefolder",
    "label_subset",
    "load_data",
    "match_classes",
    "npz",
    "parquet",
    "stratified_split",
    "torchvision_data",
]
