"""Hold a network as steps in an order to run them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from robustcl.certify.ops.operation import Operation, Shape
from robustcl.core.errors import UnsupportedError


@dataclass(frozen=True, eq=False)
class Step:
    """Hold one operation of a network.

    Args:
        place: Its name in the network, for messages.
        operation: What it does.
        sources: Positions of the steps it reads, each as often as it is read.
        shape: Of one output, without the batch.
    """

    place: str
    operation: Operation
    sources: tuple[int, ...]
    shape: Shape

    @contextmanager
    def at(self) -> Iterator[None]:
        """Add the step's place to what its operation refuses.

        Yields:
            Nothing.

        Raises:
            UnsupportedError: With the place.
        """
        try:
            yield
        except UnsupportedError as error:
            raise UnsupportedError(f"{self.place!r}: {error}") from error


@dataclass(frozen=True, eq=False)
class Network:
    """Hold the steps of h from the image in pixel units, in float64 and in an order to run them.

    Args:
        steps: The first is the image, the last gives h(x), (d,).
        device: Where the weights are.
        dtype: The type that values are computed in; norms are always from float64.
    """

    steps: tuple[Step, ...]
    device: torch.device
    dtype: torch.dtype = torch.float64

    @property
    def size(self) -> int:
        """Count the numbers inside the network, over all steps."""
        return sum(math.prod(step.shape) for step in self.steps)

    @property
    def widest(self) -> int:
        """Count the numbers of the largest step."""
        return max(math.prod(step.shape) for step in self.steps)

    def upto(self, position: int) -> "Network":
        """Return the part that ends with a step.

        Args:
            position: Of the step.

        Returns:
            The network.
        """
        return Network(self.steps[: position + 1], self.device, self.dtype)

    def in_type(self, dtype: torch.dtype) -> "Network":
        """Return the same network in another type.

        Args:
            dtype: torch.float64 or torch.float32.

        Returns:
            The network; what rounding its weights changes is counted as rounding everywhere.
        """
        steps = [replace(step, operation=step.operation.in_type(dtype)) for step in self.steps]
        return Network(tuple(steps), self.device, dtype)
