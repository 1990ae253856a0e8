"""Add losses with weights."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, get_type_hints

import torch
from torch import Tensor

from robustcl.core.errors import InputError
from robustcl.core.lazy import declared
from robustcl.core.schema import objection_to
from robustcl.core.specification import Specification, check_options, choose, parse_specification
from robustcl.declarations.losses import LOSS_ROWS
from robustcl.training.losses._false_negative_filter import FilterRule, filtered_of, suspects
from robustcl.training.losses.similarities import similarities

LOSSES: dict[str, Callable[..., Tensor]] = {
    name: declared(f"training.losses._{name}:{name}") for name in LOSS_ROWS
}
ALIASES = {row.alias: name for name, row in LOSS_ROWS.items() if row.alias}
LABELED = tuple(name for name, row in LOSS_ROWS.items() if row.labels == "only")
_OF_LOGITS: dict[str, Callable[..., Tensor]] = {
    name: declared(f"training.losses._{name}:{name}_of")
    for name, row in LOSS_ROWS.items()
    if row.sees == "pairs" and name != "false_negative_filter"
}
_TIMES = ("weight", "after", "until")
_CONDITIONS = {"top_k", "threshold", "class_prior", "confidence"}
_CLASS_PRIOR = 0.1  # of ten classes; the default of `debiased` too


@dataclass(frozen=True)
class Term:
    """State one loss of a sum.

    Args:
        name: A key of `LOSSES`, or simclr, supcon or filter.
        weight: Its factor.
        options: Keyword arguments of the loss; those of the filter are `temperature` and the
            fields of `FilterRule`.
        after: Epochs that pass before it counts.
        until: Epochs after which it no longer counts; None for never.

    Raises:
        InputError: When a name, an option or a number is not usable.
    """

    name: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    after: int = 0
    until: int | None = None

    def __post_init__(self) -> None:
        name = ALIASES.get(self.name, self.name)
        object.__setattr__(self, "name", choose(name, [*LOSSES], what="loss"))
        object.__setattr__(self, "options", dict(self.options))
        if not 0.0 <= self.weight < math.inf:
            raise InputError(f"weight {self.weight} of {self.name} is negative or not finite")
        if self.after < 0 or (self.until is not None and self.until <= self.after):
            raise InputError(f"{self.name} counts from epoch {self.after} until {self.until}")
        if self.name == "false_negative_filter":
            self.rule()
        else:
            check_options(Specification(self.name, {**self.options}), LOSSES[self.name])
        if isinstance(self.temperature, str | bool) or not self.temperature > 0.0:
            raise InputError(f"temperature {self.temperature} of {self.name} is not positive")

    @property
    def temperature(self) -> float:
        """The temperature that the loss is computed with."""
        default = (LOSSES[self.name].__kwdefaults__ or {})["temperature"]
        return self.options.get("temperature", default)

    def rule(self) -> FilterRule:
        """Return the rule of a false-negative filter.

        Returns:
            The rule; with class_prior 0.1 where no condition is given.

        Raises:
            InputError: When an option is unknown.
        """
        known = {entry.name for entry in fields(FilterRule)}
        chosen = {key: value for key, value in self.options.items() if key != "temperature"}
        for key in chosen:
            if key not in known:
                offered = ", ".join(sorted({*known, "temperature", *_TIMES}))
                raise InputError(f"filter has no option {key!r}; it takes {offered}")
            wrong = objection_to(_rule_types()[key], chosen[key])
            if wrong:
                raise InputError(f"{key} {chosen[key]!r} of filter: {wrong}")
        if not _CONDITIONS & chosen.keys():
            chosen["class_prior"] = _CLASS_PRIOR
        return FilterRule(**chosen)

    def active(self, epoch: int) -> bool:
        """Tell whether the loss counts in an epoch.

        Args:
            epoch: Epochs that are over.

        Returns:
            True when it does.
        """
        return self.weight > 0 and self.after <= epoch < (self.until or epoch + 1)


@cache
def _rule_types() -> dict[str, Any]:
    return get_type_hints(FilterRule)


@dataclass(frozen=True, eq=False)
class LossBatch:
    """Hold what losses look at.

    Args:
        first: (B, d) raw embeddings of one view of each image.
        second: (B, d) raw embeddings of the other view.
        labels: (B,) integer labels, -1 where unknown.
        targets: (K, d) class vectors, for `semantic`.
        thresholds: (B,) learned thresholds, for the filter with class_prior.
        prototypes: (K, d) class means, for the filter with confidence.
        classes: W (K, d) and b (K,), learned with the encoder, for `cross_entropy`.
    """

    first: Tensor
    second: Tensor
    labels: Tensor
    targets: Tensor | None = None
    thresholds: Tensor | None = None
    prototypes: Tensor | None = None
    classes: tuple[Tensor, Tensor] | None = None


def parse_losses(text: str) -> tuple[Term, ...]:
    """Read losses joined by plus signs, as in 'simclr+suncet:temperature=.1,weight=.5,until=50'.

    Args:
        text: NAME or NAME:key=value,key=value, joined by plus signs. Besides the options of a
            loss, `weight`, `after` and `until` are taken.

    Returns:
        The terms.

    Raises:
        InputError: When a loss or an option is unknown.
    """
    terms = []
    for part in text.split("+"):
        parsed = parse_specification(part)
        times = {key: value for key, value in parsed.options.items() if key in _TIMES}
        for key, value in times.items():
            if isinstance(value, str | bool) or (key != "weight" and not isinstance(value, int)):
                raise InputError(f"{key} {value!r} in {part!r} is not a number of epochs or factor")
        options = {key: value for key, value in parsed.options.items() if key not in _TIMES}
        terms.append(Term(parsed.name, options=options, **times))  # pyright: ignore[reportArgumentType]
    return tuple(terms)


def weighted_sum(
    terms: tuple[Term, ...], batch: LossBatch, *, labeled: LossBatch | None = None, epoch: int = 0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the losses that count in an epoch.

    Args:
        terms: The losses.
        batch: The batch that every loss sees.
        labeled: A batch of labeled images in place of it for the losses in `LABELED`.
        epoch: Epochs that are over.

    Returns:
        The sum, and each loss without its weight.

    Raises:
        InputError: When no loss counts in this epoch.
    """
    parts: dict[str, Tensor] = {}
    total: Tensor | None = None
    for term in terms:
        if not term.active(epoch):
            continue
        seen = labeled if labeled is not None and term.name in LABELED else batch
        if LOSS_ROWS[term.name].sees == "classes":
            value = _of_classes(term, seen)
        elif LOSS_ROWS[term.name].sees == "embeddings":
            value = LOSSES[term.name](seen.first, seen.second, seen.labels, **term.options)
        else:
            logits = similarities(seen.first, seen.second, temperature=term.temperature)
            value = _of_logits(term, logits, seen)
        parts[term.name] = value
        share = term.weight * value
        total = share if total is None else total + share
    if total is None:
        raise InputError(f"no loss counts in epoch {epoch + 1}; check weight, after and until")
    return total, parts


def pair_weights(terms: tuple[Term, ...], batch: LossBatch, *, epoch: int = 0) -> Tensor:
    """Return how strongly the losses push each view j away from each view i.

    Args:
        terms: The losses; those that see no pairs are left out, since they are no functions of
            s_ij.
        batch: The batch.
        epoch: Epochs that are over.

    Returns:
        (2B, 2B) derivatives of view i's own loss by s_ij: positive where it repels, negative
        where it attracts, 0 on the diagonal. For NT-Xent a negative has p_ij / tau.
    """
    count = 2 * len(batch.first)
    first, second = batch.first.detach(), batch.second.detach()
    total = similarities(first, second, temperature=1.0).new_zeros(count, count)
    for term in terms:
        if LOSS_ROWS[term.name].sees != "pairs" or not term.active(epoch):
            continue
        logits = similarities(first, second, temperature=term.temperature)
        with torch.enable_grad():
            value = _of_logits(term, logits.requires_grad_(), batch)
            (slope,) = torch.autograd.grad(value, logits)
        # Losses of labeled images are means over fewer views than all.
        labeled = LOSS_ROWS[term.name].labels == "only"
        views = 2 * int((batch.labels >= 0).sum()) if labeled else count
        total += term.weight * views * slope / term.temperature
    return total.fill_diagonal_(0.0)


def _of_classes(term: Term, seen: LossBatch) -> Tensor:
    views = (seen.first, seen.second, seen.labels)
    if term.name == "cross_entropy":
        if seen.classes is None:
            raise InputError("cross_entropy needs the weight and the bias of a class layer")
        return LOSSES["cross_entropy"](*views, *seen.classes, **term.options)
    if seen.targets is None:
        raise InputError("semantic needs class targets; give --targets simplex")
    return LOSSES["semantic"](*views, seen.targets, **term.options)


def _of_logits(term: Term, logits: Tensor, batch: LossBatch) -> Tensor:
    numbers = {**(LOSSES[term.name].__kwdefaults__ or {}), **term.options}
    if term.name in _OF_LOGITS:
        function = _OF_LOGITS[term.name]
        offered, taken = {**numbers, "labels": batch.labels}, inspect.signature(function).parameters
        return function(logits, **{key: offered[key] for key in taken if key in offered})
    views = (batch.first, batch.second, batch.labels)
    found = suspects(*views, batch.thresholds, batch.prototypes, rule=term.rule())
    return filtered_of(logits, found)
