"""Keep two sets of BatchNorm statistics: one for clean images, one for attacked ones."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustcl.core.errors import InputError

CLEAN, ADVERSARIAL = "clean", "adversarial"
BRANCHES = (CLEAN, ADVERSARIAL)


class DualBatchNorm(nn.Module):
    """Hold two plain BatchNorm layers, of which one is in use.

    Args:
        layer: Becomes the clean branch; the adversarial one starts as its copy.

    Reference:
        Xie et al., Adversarial Examples Improve Image Recognition, CVPR 2020, section 4, as used
        by Jiang et al., Robust Pre-Training by Adversarial Contrastive Learning, NeurIPS 2020.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.clean = layer
        self.adversarial = copy.deepcopy(layer)
        self.branch = ADVERSARIAL

    def forward(self, features: Tensor) -> Tensor:
        """Normalize by the branch in use.

        Args:
            features: (B, C, ...).

        Returns:
            The same shape.
        """
        return self.adversarial(features) if self.branch == ADVERSARIAL else self.clean(features)


def split_batch_norm(module: nn.Module) -> int:
    """Put two branches in place of every BatchNorm layer; the adversarial one is in use.

    Args:
        module: Its children change in place.

    Returns:
        How many layers were split; 0 for a network without BatchNorm, whose branches are one.
    """
    places = _places(module, _BatchNorm)
    split = {id(layer): DualBatchNorm(layer) for _, _, layer in places}
    for parent, name, layer in places:
        setattr(parent, name, split[id(layer)])  # a layer used in two places stays one
    return len(split)


def join_batch_norm(module: nn.Module, branch: str = ADVERSARIAL) -> int:
    """Put plain BatchNorm layers back, those of one branch.

    Args:
        module: Its children change in place.
        branch: The branch that is kept.

    Returns:
        How many layers were joined.
    """
    check_branch(branch)
    places = _places(module, DualBatchNorm)
    for parent, name, layer in places:
        setattr(parent, name, layer.get_submodule(branch))
    return len({id(layer) for _, _, layer in places})


@contextmanager
def using_branch(module: nn.Module, branch: str) -> Iterator[None]:
    """Use one branch of every split layer, and the former one again on exit.

    Args:
        module: The network; without split layers nothing changes.
        branch: 'clean' or 'adversarial'.

    Yields:
        Nothing.
    """
    check_branch(branch)
    layers = [part for part in module.modules() if isinstance(part, DualBatchNorm)]
    before = [layer.branch for layer in layers]
    try:
        for layer in layers:
            layer.branch = branch
        yield
    finally:
        for layer, former in zip(layers, before, strict=True):
            layer.branch = former


def check_branch(branch: str) -> str:
    """Refuse a branch that is not there.

    Args:
        branch: The name.

    Returns:
        The same name.

    Raises:
        InputError: When it is neither 'clean' nor 'adversarial'.
    """
    if branch not in BRANCHES:
        raise InputError(f"unknown BatchNorm branch {branch!r}; use {' or '.join(BRANCHES)}")
    return branch


def _places(module: nn.Module, kind: type[nn.Module]) -> list[tuple[nn.Module, str, nn.Module]]:
    # Every place of every layer of a kind: its parent, its name there, and the layer.
    found = []
    for path, layer in module.named_modules(remove_duplicate=False):
        if path and isinstance(layer, kind):
            parent, _, name = path.rpartition(".")
            found.append((module.get_submodule(parent), name, layer))
    return found
