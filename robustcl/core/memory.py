"""Ask how much memory is free, and notice where it runs out."""

import ctypes
import errno
import gc
import os
import platform
import re
from pathlib import Path

from robustcl.core.errors import InputError

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


GIB = 2**30


def require_memory(size: int, *, what: str, cure: str) -> None:
    """Refuse what does not fit into the memory that is free.

    Args:
        size: Bytes that are needed.
        what: What needs them, for the message: '600 images of 9000x9000 pixels'.
        cure: What the user can do.

    Raises:
        InputError: When less is free. Where the system does not tell, nothing is refused.
    """
    free = available_memory()
    if free is not None and size > free:
        raise InputError(
            f"{what} would take {size / GIB:,.1f} GiB of memory, and {free / GIB:,.1f} GiB are "
            f"free; {cure}"
        )


def available_memory(system: Path = Path("/")) -> int | None:
    """Measure the memory that this process can still take, as the system and a container allow.

    Args:
        system: The root of the file system that tells.

    Returns:
        Bytes; None where the system does not tell.
    """
    found = [_free_in_system(system), *_free_in_containers(system)]
    return min((free for free in found if free is not None), default=None)


def _free_in_system(system: Path) -> int | None:
    for line in _lines(system / "proc/meminfo"):
        name, _, rest = line.partition(":")
        if name == "MemAvailable" and rest.split():
            return 1024 * int(rest.split()[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _free_in_containers(system: Path) -> list[int | None]:
    # A container's own limit, and those of the groups above it, of either version of cgroups.
    groups = system / "sys/fs/cgroup"
    found: list[int | None] = []
    for line in ["::/", *_lines(system / "proc/self/cgroup")]:
        _, controllers, place = [*line.split(":", 2), "", ""][:3]
        inside = Path(place.strip().lstrip("/"))
        for above in (inside, *inside.parents):
            if ".." in above.parts:
                continue
            if not controllers:
                found.append(_free(groups / above, "memory.max", "memory.current"))
            if "memory" in controllers.split(",") or not controllers:
                old = groups / "memory" / above
                found.append(_free(old, "memory.limit_in_bytes", "memory.usage_in_bytes"))
    return found


def _free(folder: Path, limit: str, usage: str) -> int | None:
    most, used = _number(folder / limit), _number(folder / usage)
    if most is None or used is None:
        return None
    # Pages of files that were read are given back when memory is asked for.
    caches = ("inactive_file", "total_inactive_file")
    given = [line.split() for line in _lines(folder / "memory.stat")]
    cached = max((int(words[1]) for words in given if words[0] in caches), default=0)
    return max(most - used + cached, 0)


def _number(place: Path) -> int | None:
    text = "".join(_lines(place)).strip()
    return int(text) if text.isdecimal() else None


def _lines(place: Path) -> list[str]:
    try:
        return place.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
