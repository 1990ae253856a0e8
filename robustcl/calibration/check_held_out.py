"""Refuse to calibrate on images that are also tested on, or without one of the classes."""

import hashlib

import numpy as np

from robustcl.core.errors import InputError
from robustcl.data.dataset import Dataset

CHUNK = 1024  # images that are decoded at once, where they are streamed


def check_held_out(held_out: Dataset, test: Dataset, *, num_classes: int) -> None:
    """Compare the pixels of two data sets image by image, and count the classes.

    Args:
        held_out: On which a temperature is to be fitted.
        test: On which calibration is to be measured.
        num_classes: K of the classifier.

    Raises:
        InputError: When an image is in both, held-out images have no labels or one beyond the
            classes, or a class has no held-out image.
    """
    if not held_out.labeled:
        raise InputError(f"{held_out.name!r} has no labels; a temperature needs them")
    largest = int(held_out.labels.max())
    if largest >= num_classes:
        raise InputError(
            f"{held_out.name!r} has the label {largest} but the classifier has {num_classes} "
            "classes; hold out images of its own classes"
        )
    known = {digest: row for row, digest in enumerate(image_hashes(test))}
    shared = [(r, known[d]) for r, d in enumerate(image_hashes(held_out)) if d in known]
    if shared:
        first, second = shared[0]
        raise InputError(
            f"{len(shared)} of {len(held_out)} held-out images are test images as well (image "
            f"{first} of {held_out.name!r} is image {second} of {test.name!r}); a temperature "
            "fitted on them would flatter, so hold out others"
        )
    counts = np.bincount(held_out.labels, minlength=num_classes)
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        names = dict(enumerate(held_out.class_names))
        name = names.get(int(missing[0]), str(missing[0]))
        raise InputError(
            f"class {int(missing[0])} ({name}) has no image among {len(held_out)} held out; every "
            "class needs one, so hold out more"
        )


def image_hashes(dataset: Dataset) -> list[bytes]:
    """Hash the pixels of every image, whatever their type.

    Args:
        dataset: The images; those in [0, 1] are compared after rounding to 8 bits.

    Returns:
        One digest per image.
    """
    digests = []
    for start in range(0, len(dataset), CHUNK):
        images = dataset.images[slice(start, start + CHUNK)]
        if images.dtype != np.uint8:
            images = np.round(images * 255.0).astype(np.uint8)
        digests += [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images]
    return digests
