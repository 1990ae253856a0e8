"""Compute the gradients of all outputs at a point, and their pairwise differences' norms."""

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor

from robustcl.certify.norms import check_certified_norm
from robustcl.core.batching import fill
from robustcl.core.choices import CertifiedNorm
from robustcl.core.errors import InputError

Strategy = Literal["auto", "vmap", "loop"]
GRADIENT_BATCH = 32  # images whose gradients are held at once


def output_gradients(
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    strategy: Strategy = "auto",
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute every output and its gradient with respect to the image.

    Args:
        function: (B, ...) images to (B, K) outputs, image by image (a network in eval mode).
        images: (B, ...) points.
        strategy: 'vmap' maps vector-Jacobian products over the outputs by `torch.func.vmap`;
            'loop' takes them one by one through one graph. 'auto' is the loop on a CPU, else vmap.
        chunk_size: Outputs per vmap; None for all at once.

    Returns:
        (B, K) outputs and (B, K, ...) gradients.

    Raises:
        InputError: When the strategy is unknown.
    """
    if strategy not in ("auto", "vmap", "loop"):
        raise InputError(f"unknown strategy {strategy!r}; use auto, vmap or loop")
    if strategy == "vmap" or (strategy == "auto" and images.device.type != "cpu"):
        with torch.inference_mode(False), torch.enable_grad():
            return _mapped(function, images, chunk_size)
    with torch.inference_mode(False), torch.enable_grad():
        points = images.detach().clone().requires_grad_()
        outputs = function(points)
        count = outputs.shape[1]
        rows = [
            torch.autograd.grad(outputs[:, k].sum(), points, retain_graph=k < count - 1)[0]
            for k in range(count)
        ]
    return outputs.detach(), torch.stack(rows, dim=1)


def pairwise_gradient_norms(gradients: Tensor, *, norm: CertifiedNorm) -> Tensor:
    """Measure the dual norms of all differences of gradients.

    Args:
        gradients: (B, K, ...) gradients of K outputs.
        norm: The perturbation's norm; its dual is taken (l2: L2, linf: L1).

    Returns:
        (B, K, K) float64: entry (i, j) bounds the slope of output i less output j at the point.
    """
    order = 2.0 if check_certified_norm(norm) == "l2" else 1.0
    flat = gradients.flatten(2)
    batch, count = flat.shape[:2]
    norms = flat.new_zeros(batch, count, count, dtype=torch.float64)
    for row in range(count - 1):
        difference = flat[:, row : row + 1] - flat[:, row + 1 :]
        values = torch.linalg.vector_norm(difference, order, dim=2).double()
        norms[:, row, row + 1 :] = values
        norms[:, row + 1 :, row] = values
    return norms


def pairwise_slopes(
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    norm: CertifiedNorm,
    strategy: Strategy = "auto",
    batch_size: int = GRADIENT_BATCH,
) -> tuple[Tensor, Tensor]:
    """Compute every output and the dual norms of all differences of gradients, in flat memory.

    Gradients are kept for one batch at a time, so the number of images costs no memory beyond the
    results. A last batch that is shorter is filled up.

    Args:
        function: (B, ...) images to (B, K) outputs, image by image (a network in eval mode).
        images: (B, ...) points.
        norm: The perturbation's norm.
        strategy: As for `output_gradients`.
        batch_size: Images at once.

    Returns:
        (B, K) outputs and (B, K, K) float64 norms as from `pairwise_gradient_norms`.
    """
    size = min(batch_size, len(images))
    parts = []
    for chunk in images.split(size):
        outputs, gradients = output_gradients(function, fill(chunk, size), strategy=strategy)
        norms = pairwise_gradient_norms(gradients[: len(chunk)], norm=norm)
        parts.append((outputs[: len(chunk)], norms))
        del gradients  # before the next ones are computed
    outputs, norms = zip(*parts, strict=True)
    return torch.cat(outputs), torch.cat(norms)


def _mapped(
    function: Callable[[Tensor], Tensor], images: Tensor, chunk_size: int | None
) -> tuple[Tensor, Tensor]:
    outputs, pull_back = cast(
        tuple[Tensor, Callable[[Tensor], tuple[Tensor]]], torch.func.vjp(function, images.detach())
    )
    count = outputs.shape[1]
    basis = torch.eye(count, dtype=outputs.dtype, device=outputs.device)
    cotangents = basis[:, None, :].expand(count, len(images), count)
    gradients = torch.func.vmap(lambda row: pull_back(row)[0], chunk_size=chunk_size)(cotangents)
    return outputs.detach(), gradients.transpose(0, 1).detach()
