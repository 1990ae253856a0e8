"""Attack a randomized model by the average over its draws."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.seeds import example_seed


def expectation(objective: Objective, *, draws: int = 20, seed: int = 0) -> Objective:
    """Average an objective over draws of a randomized model: expectation over transformation.

    The model's randomness is torch's default generator of its device; draw i runs under a seed of
    its own and the generator is restored afterwards. With the draws fixed the result is a
    deterministic objective that every attack takes: the margin is the mean of the draws' margins,
    scores and embeddings are means likewise. Verdicts on it hold for these draws only: measure
    what was found again under other seeds, `measure(expectation(objective, draws=1000, seed=1),
    ...)`, and draw by draw for the share of wins. Since a model draws for the whole batch at once,
    the noise of an image depends on its place in the batch: here alone and in a batch may differ.

    Args:
        objective: The objective of the randomized model.
        draws: Draws, each a forward and a backward pass; one call holds the graphs of all.
        seed: Seed from which the draws' seeds are made.

    Returns:
        The averaged objective; `run` counts `draws` gradients for each of it.

    Raises:
        InputError: When there are no draws.

    Reference:
        Athalye et al., Synthesizing Robust Adversarial Examples, ICML 2018.
    """
    if draws < 1:
        raise InputError(f"expectation over draws={draws}; use 1 or more, 20 by rule")
    chosen = [example_seed(seed, draw, "expectation") % 2**63 for draw in range(draws)]
    classifier, about = objective.classifier, objective.about
    again = partial(expectation, draws=draws, seed=seed)
    return replace(
        objective,
        margin=_mean(objective.margin, chosen),
        classifier=None if classifier is None else _Mean(classifier, chosen),
        aim=None if objective.aim is None else _mean_aim(objective.aim, chosen),
        evaluations=objective.evaluations * draws,
        about=None if about is None else lambda other: again(about(_single(other))),
    )


def _mean(function: Callable[[Tensor], Tensor], seeds: list[int]) -> Callable[[Tensor], Tensor]:
    def averaged(images: Tensor) -> Tensor:
        with _own_generator(images.device):
            values = []
            for seed in seeds:
                torch.manual_seed(seed)
                values.append(function(images))
        return torch.stack(values).mean(dim=0)

    return averaged


def _mean_aim(
    aim: Callable[[Tensor], Callable[[Tensor], Tensor]], seeds: list[int]
) -> Callable[[Tensor], Callable[[Tensor], Tensor]]:
    return lambda rows: _mean(aim(rows), seeds)


def _own_generator(device: torch.device) -> AbstractContextManager[None]:
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _single(classifier: Classifier) -> Classifier:
    # Copies of an averaged classifier are averaged classifiers.
    return classifier.classifier if isinstance(classifier, _Mean) else classifier


class _Mean(Classifier):
    # Shares the modules of a classifier; its scores and embeddings are means over draws.

    def __init__(self, classifier: Classifier, seeds: list[int]) -> None:
        super().__init__(
            classifier.encoder,
            classifier.head,
            class_names=classifier.class_names,
            normalizes=classifier.normalizes,
        )
        self.classifier = classifier
        self.seeds = seeds
        self.training = classifier.training

    def raw_embeddings(self, images: Tensor) -> Tensor:
        return _mean(self.classifier.raw_embeddings, self.seeds)(images)

    def embeddings(self, images: Tensor) -> Tensor:
        return _mean(self.classifier.embeddings, self.seeds)(images)

    def forward(self, images: Tensor) -> Tensor:
        return _mean(self.classifier.forward, self.seeds)(images)
