"""Have glibc keep freed memory for the next tensor instead of giving it back."""

import ctypes
import os
import platform

MEBIBYTE = 2**20
_LARGEST = 64 * MEBIBYTE  # larger blocks go back as soon as they are freed
_KEPT = 256 * MEBIBYTE  # free memory at the end of the heap
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h
_OWN_CHOICE = (
    *("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"),
    *("GLIBC_TUNABLES", "LD_PRELOAD"),
)


def keep_freed_memory() -> bool:
    """Raise the sizes from which glibc maps blocks anew and trims its heap.

    By default every block of 32 MiB is mapped, and the heap trimmed beyond 64 MiB, again and again:
    where each operation makes a tensor of that size, most of the time goes into page faults. Layer
    norms around a batch of CIFAR-10 images took 1.6 times as long so. Results do not change.

    Returns:
        Whether it was done: on Linux with glibc, where the environment does not choose otherwise.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _OWN_CHOICE):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _KEPT))
