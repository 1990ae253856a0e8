"""Let operations say which calls of an exported program they stand for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from robustcl.certify.graph import Step
from robustcl.certify.ops.affine import Affine
from robustcl.certify.ops.operation import Operation, Shape
from robustcl.core.errors import UnsupportedError


class Foldable(Protocol):
    """A linear map that what follows it may be folded into."""

    def operation(self) -> Operation:
        """Return the map as an operation."""
        ...

    def scaled(self, factor: Tensor, offset: Tensor, offset_size: Tensor) -> "Foldable | None":
        """Return the map followed by a factor and an offset per channel, where it can."""
        ...

    def rotated(self) -> "tuple[Affine, Affine] | None":
        """Return the map, and the map followed by the rotation of `pairing`, where it can."""
        ...


@dataclass(eq=False)
class Value:
    """Stand for what a call gives, as far as it depends on the image.

    Args:
        shape: Of one output, without the batch.
        position: Of the step that gives it; None while it may still be folded into the next one.
        foldable: The map that is not a step yet.
        source: What it is applied to.
        place: Where it stands in the network.
    """

    shape: Shape
    position: int | None = None
    foldable: Foldable | None = None
    source: "Value | None" = None
    place: str = ""


@dataclass(eq=False)
class Steps:
    """Collect the steps of a network.

    Args:
        steps: So far.
        device: Where constants are.
        batch: Images in the exported program.
    """

    steps: list[Step]
    device: torch.device
    batch: int

    def emit(
        self, place: str, operation: Operation, inputs: Sequence[Value], shape: Shape
    ) -> Value:
        """Add a step.

        Args:
            place: Where it stands.
            operation: What it does.
            inputs: What it reads.
            shape: Of one output.

        Returns:
            What it gives.
        """
        sources = tuple(self.position(value) for value in inputs)
        self.steps.append(Step(place, operation, sources, shape))
        return Value(shape, len(self.steps) - 1)

    def position(self, value: Value) -> int:
        """Make a step of a value where it is none yet.

        Args:
            value: Any.

        Returns:
            The step's position.

        Raises:
            UnsupportedError: When it is nothing that a step gives.
        """
        if value.position is None:
            if value.foldable is None or value.source is None:
                raise UnsupportedError(f"{value.place!r} gives nothing that a step could read")
            made = self.emit(value.place, value.foldable.operation(), [value.source], value.shape)
            value.position = made.position
        assert value.position is not None
        return value.position


@dataclass(frozen=True, eq=False)
class Call:
    """Hold one call of an exported program.

    Args:
        name: Of the operation, such as 'aten.relu.default'.
        place: The module's path in the network.
        arguments: By the schema's names; what depends on the image is a `Value`, other tensors are
            float64.
        function: The operation itself.
        shapes: Of the outputs, without the batch.
        is_sole_reader: Whether nothing else reads the first input.
        steps: The steps so far.
    """

    name: str
    place: str
    arguments: Mapping[str, object]
    function: Callable[..., object]
    shapes: Sequence[Shape]
    is_sole_reader: bool
    steps: Steps
    inputs: Sequence[Value] = field(default_factory=tuple)

    @property
    def shape(self) -> Shape:
        """Of the only output."""
        (shape,) = self.shapes
        return shape

    def emit(self, operation: Operation, *inputs: Value, shape: Shape | None = None) -> Value:
        """Add a step.

        Args:
            operation: What it does.
            *inputs: What it reads; the call's own inputs by default.
            shape: Of one output; the call's own by default.

        Returns:
            What it gives.
        """
        own = self.shape if shape is None else shape
        return self.steps.emit(self.place, operation, inputs or self.inputs, own)

    def value(self, name: str) -> Value:
        """Read an argument that depends on the image.

        Args:
            name: Of the argument.

        Returns:
            The value.

        Raises:
            UnsupportedError: When it does not depend on the image.
        """
        found = self.arguments[name]
        if not isinstance(found, Value):
            raise self.refusal(f"with {name} that does not depend on the image")
        return found

    def constant(self, name: str) -> Tensor | None:
        """Read a tensor that does not depend on the image, or a number.

        Args:
            name: Of the argument.

        Returns:
            float64; None where none is given.

        Raises:
            UnsupportedError: When it depends on the image, or is no real number.
        """
        found = self.arguments[name]
        if found is None:
            return None
        if isinstance(found, Tensor) and not found.is_complex():
            return found.detach().double()
        if isinstance(found, int | float) and not isinstance(found, bool):
            return torch.tensor(float(found), dtype=torch.float64, device=self.steps.device)
        what = "is computed from the image" if isinstance(found, Value) else f"is {found!r}"
        raise self.refusal(f"whose {name} {what}")

    def tensor(self, name: str) -> Tensor:
        """Read a tensor that does not depend on the image.

        Args:
            name: Of the argument.

        Returns:
            float64.

        Raises:
            UnsupportedError: When there is none.
        """
        found = self.constant(name)
        if found is None:
            raise self.refusal(f"without {name}")
        return found

    def number(self, name: str) -> float:
        """Read a number.

        Args:
            name: Of the argument.

        Returns:
            The number, which may be infinite or not a number.

        Raises:
            UnsupportedError: When it is a tensor of several.
        """
        found = self.tensor(name)
        if found.numel() != 1:
            raise self.refusal(f"with {name} {self.arguments[name]!r}")
        return float(found)

    def whole(self, name: str) -> int:
        """Read a whole number.

        Args:
            name: Of the argument.

        Returns:
            The number.

        Raises:
            UnsupportedError: When it is none.
        """
        found = self.arguments[name]
        if not isinstance(found, int):
            raise self.refusal(f"with {name} {found!r}")
        return found

    def wholes(self, name: str) -> list[int]:
        """Read whole numbers.

        Args:
            name: Of the argument.

        Returns:
            The numbers; one alone makes a list of one.

        Raises:
            UnsupportedError: When it is something else.
        """
        found = self.arguments[name]
        given = [found] if isinstance(found, int) else found
        if not isinstance(given, list | tuple) or not all(isinstance(n, int) for n in given):
            raise self.refusal(f"with {name} {found!r}")
        return [int(n) for n in given]

    def axis(self, name: str, *, extra: int = 0) -> int:
        """Read an axis of the input, and refuse that of the batch.

        Args:
            name: Of the argument.
            extra: Axes that the output has besides.

        Returns:
            The axis, the batch not counted.
        """
        return self.axes([self.whole(name)], extra=extra)[0]

    def axes(self, given: Sequence[int], *, extra: int = 0) -> list[int]:
        """Count axes of the first input without the batch, and refuse that of the batch.

        Args:
            given: As the call has them.
            extra: Axes that the output has besides.

        Returns:
            The axes.

        Raises:
            UnsupportedError: When one of them is the batch.
        """
        count = len(self.inputs[0].shape) + 1 + extra
        found = [axis % count for axis in given]
        if 0 in found:
            raise self.mixing()
        return [axis - 1 for axis in found]

    def refusal(self, reason: str) -> UnsupportedError:
        """Say why the call has no bounds.

        Args:
            reason: Follows the operation's name.

        Returns:
            The error to raise.
        """
        return UnsupportedError(f"the operation {operation_name(self.name)!r} {reason}")

    def mixing(self) -> UnsupportedError:
        """Say that the call does not keep images apart.

        Returns:
            The error to raise.
        """
        return self.refusal("does not keep images apart")


Recogniser = Callable[[Call], "Value | Sequence[Value]"]


@dataclass(frozen=True)
class Rule:
    """Pair a function that reads calls with the arguments that it reads.

    Args:
        function: Turns a call into steps.
        reads: Names of arguments; all others must have their defaults.
    """

    function: Recogniser
    reads: frozenset[str]


RULES: dict[str, Rule] = {}


def recognises(*names: str, reads: str = "self") -> Callable[[Recogniser], Recogniser]:
    """State which calls a function turns into steps.

    Args:
        *names: Of operations, such as 'relu.default', of the namespace aten.
        reads: Arguments that it reads, by the schema's names; others must have their defaults.

    Returns:
        The decorator.
    """

    def register(function: Recogniser) -> Recogniser:
        for name in names:
            RULES[f"aten.{name}"] = Rule(function, frozenset(reads.split()))
        return function

    return register


def operation_name(name: str) -> str:
    """Name an operation as it is called in Python.

    Args:
        name: Such as 'aten.add.Tensor'.

    Returns:
        Such as 'add'.
    """
    return name.removeprefix("aten.").split(".")[0]
