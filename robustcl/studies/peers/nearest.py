"""Find the nearest adversarial points by this toolkit, the reference's FAB and torchattacks."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robustcl import attacks
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.objectives import misclassify
from robustcl.core.threat import perturbation_norm

Points = Callable[[Classifier, Tensor, Tensor, Norm], Tensor]


def our_points(
    name: str, model: Classifier, images: Tensor, left: Tensor, norm: Norm, **options: Any
) -> Tensor:
    """Attack with ours.

    Args:
        name: The attack.
        model: The network.
        images: The images.
        left: Classes to be left.
        norm: 'l2' or 'linf'.
        **options: Of the attack.

    Returns:
        Points.
    """
    found = attacks.attacked_radius(
        name, misclassify(model, left), images, norm=norm, eps_grid=[widest(images, norm)],
        batch_size=len(images), **options,
    )  # fmt: skip
    return found.adversarials


def widest(images: Tensor, norm: Norm) -> float:
    """Return the diameter of the box.

    Args:
        images: (B, C, H, W).
        norm: 'l2' or 'linf'.

    Returns:
        The norm of the all-one image.
    """
    return images[0].numel() ** 0.5 if norm == "l2" else 1.0


def reference_fab(
    model: Classifier,
    images: Tensor,
    left: Tensor,
    norm: Norm,
    *,
    targeted: bool = False,
    restarts: int = 1,
) -> Tensor:
    """Run the reference's FAB, and keep the nearest point over restarts and classes.

    Args:
        model: The network.
        images: The images.
        left: Classes to be left.
        norm: 'l2' or 'linf'.
        targeted: Whether it aims at each of nine classes.
        restarts: Runs otherwise.

    Returns:
        Points.
    """
    from pyautoattack.fab_pt import FABAttack_PT

    name: Any = {"l2": "L2", "linf": "Linf"}[norm]
    # Random starts lie within half of eps: the budgets that are usual on photographs.
    eps = {"l2": 0.5, "linf": 8 / 255}[norm]
    device = str(images.device)
    fab = FABAttack_PT(model, norm=name, n_iter=100, eps=eps, device=device, targeted=targeted)
    best = images.clone()
    least = torch.full((len(images),), torch.inf, device=images.device).double()
    for run in range(9 if targeted else restarts):
        fab.target_class = run + 2
        random = run > 0 and not targeted
        points = fab.attack_single_run(images, left, use_rand_start=random, is_targeted=targeted)
        norms = perturbation_norm(points - images, norm)
        nearer = (norms > 0) & (norms < least)
        best[nearer], least = points[nearer], torch.where(nearer, norms, least)
    for weight in model.parameters():  # it leaves gradients behind
        weight.grad = None
    return best


def torchattacks_points(
    name: str, model: Classifier, images: Tensor, left: Tensor, norm: Norm, **options: Any
) -> Tensor:
    """Run an attack of torchattacks.

    Args:
        name: The class.
        model: The network.
        images: The images.
        left: Classes to be left.
        norm: 'l2' or 'linf'.
        **options: Of the class.

    Returns:
        Points.
    """
    import torchattacks  # pyright: ignore[reportMissingImports]

    if name == "FAB":
        options = {"norm": {"l2": "L2", "linf": "Linf"}[norm], "eps": widest(images, norm),
                   "n_classes": 10, **options}  # fmt: skip
    attack = getattr(torchattacks, name)(model, **options)
    with contextlib.redirect_stdout(io.StringIO()):
        return attack(images, left)


def verified_norms(
    model: Classifier, images: Tensor, points: Tensor, left: Tensor, norm: Norm
) -> Tensor:
    """Measure points again, clipped to the box.

    Args:
        model: The network.
        images: The images.
        points: What an attack returned.
        left: Classes to be left.
        norm: 'l2' or 'linf'.

    Returns:
        (B,) float64 norms, infinite where a point leaves the class as it was.
    """
    points = points.detach().clamp(0.0, 1.0)
    won = attacks.measure(misclassify(model, left), points, batch_size=len(images)) > 0
    return torch.where(won, perturbation_norm(points - images, norm), torch.inf)
