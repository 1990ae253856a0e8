"""Data: one file per source; every source yields a `Dataset` of images in [0, 1]."""

from robustcl.data.batch import Batch
from robustcl.data.dataset import Dataset
from robustcl.data.digits import digits
from robustcl.data.imagefolder import imagefolder
from robustcl.data.label_subset import label_subset
from robustcl.data.load_data import SOURCES, load_data
from robustcl.data.match_classes import match_classes
from robustcl.data.npz import npz
from robustcl.data.parquet import parquet
from robustcl.data.splits import stratified_split
from robustcl.data.torchvision_data import torchvision_data

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
