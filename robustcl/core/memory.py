"""Recognize that memory ran out, in every form in which libraries say it."""

import ctypes
import errno
import gc
import platform
import re

# Of torch on CPUs and GPUs, CUDA's libraries, oneDNN and C++, which name no type of their own.
_SAID = re.compile(
    r"""
    can't\ allocate\ memory            # torch's CPU allocator, also "you tried to allocate"
  | not\ enough\ memory:\ you\ tried   # the same on other systems
  | cannot\ allocate\ memory           # strerror(ENOMEM), as of mmap
  | unable\ to\ mmap\ .*memory
  | out\ of\ memory                    # "CUDA out of memory", "CUDA error: out of memory", MPS, XPU
  | ALLOC_FAILED                       # CUBLAS_, CUDNN_, CUSPARSE_, CUSOLVER_, CUFFT_STATUS_
  | CUFFT_ALLOC
  | CUDA_ERROR_OUT_OF_MEMORY
  | could\ not\ create\ a\ (?:primitive|memory)   # oneDNN; `primitive` has other causes as well
  | std::bad_alloc
  | bad\ allocation
  | failed\ to\ map\ segment\ from\ shared\ object  # of the dynamic loader
    """,
    re.IGNORECASE | re.VERBOSE,
)

FRUGAL = 128 * 1024  # bytes: glibc's own thresholds before they grow
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or a CPU.

    Python, NumPy and torch have types for it; libraries beneath torch say it in a RuntimeError's
    text alone. oneDNN's "could not create a primitive" is said for want of memory in the first
    place, but for descriptors that it does not support as well: whoever tries again with less must
    end.

    Args:
        error: The error.

    Returns:
        True when it does.
    """
    if isinstance(error, MemoryError):  # NumPy's, and torch's for std::bad_alloc, are such
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True  # torch's, without loading torch
    return isinstance(error, RuntimeError | SystemError | ImportError | OSError) and bool(
        _SAID.search(str(error))
    )


def release_freed_memory() -> None:
    """Give memory that was freed back to the system, and keep less of it from now on.

    glibc keeps it, the more so as commands ask it to: in a limited address space, what it keeps in
    small pieces is lacking for a large one.
    """
    gc.collect()
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    for what in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
        library.mallopt(what, FRUGAL)
    library.malloc_trim(0)
