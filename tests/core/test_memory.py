"""Want of memory is recognized in every form, and for nothing else."""

import mmap

import numpy as np
import pytest
import torch

from robustcl.core.batching import retry_smaller
from robustcl.core.errors import RunError
from robustcl.core.memory import is_out_of_memory

HUGE = 2**60  # bytes: beyond any address space


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty(HUGE, dtype=torch.uint8),
        lambda: np.empty(HUGE, dtype=np.uint8),
        lambda: bytearray(HUGE),
        lambda: mmap.mmap(-1, 2**50),
    ],
    ids=["torch", "numpy", "python", "mmap"],
)
def test_what_is_really_raised(ask) -> None:
    with pytest.raises((RuntimeError, MemoryError, OSError)) as caught:
        ask()
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not create a memory object"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("unable to mmap 8 bytes from file <x>: Cannot allocate memory (12)"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=str,
)
def test_forms_that_other_machines_have(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape '[2, 3]' is invalid for input of size 5"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("memory format is not supported"),
        ValueError("out of memory is what the file says"),
        OSError(28, "No space left on device"),
        KeyboardInterrupt(),
    ],
    ids=str,
)
def test_what_is_something_else(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_batches_are_halved_until_they_fit(capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def attempt(size: int) -> int:
        asked.append(size)
        if size > 5:
            raise RuntimeError("could not create a primitive")
        return size

    assert retry_smaller(attempt, 24) == 3 and asked == [24, 12, 6, 3]
    assert capsys.readouterr().err.splitlines()[-1].endswith("--batch-size 3")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("could not create a primitive")])
def test_a_wrong_match_ends_at_one_with_its_cause(error: Exception) -> None:
    asked = []

    def attempt(size: int) -> None:
        asked.append(size)
        raise error

    with pytest.raises(RunError, match="one image alone") as caught:
        retry_smaller(attempt, 7)
    assert asked == [7, 3, 1] and caught.value.__cause__ is error


def test_other_errors_come_through_at_once() -> None:
    asked = []

    def attempt(size: int) -> None:
        asked.append(size)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        retry_smaller(attempt, 8)
    assert asked == [8]
