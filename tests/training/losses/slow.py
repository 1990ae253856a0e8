"""Losses as loops over their definitions, in float64."""

import math

import torch
from torch import Tensor


def points(seed: int, count: int = 6, size: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, count, size, dtype=torch.float64, generator=generator)
    return first.requires_grad_(), second.requires_grad_()


def cosines(first: Tensor, second: Tensor) -> list[list[Tensor]]:
    views = [view / view.norm() for view in torch.cat([first, second])]
    return [[a @ b for b in views] for a in views]


def partner(i: int, views: int) -> int:
    return (i + views // 2) % views


def slow_sup_con(first: Tensor, second: Tensor, labels: list[int], tau: float) -> Tensor:
    table, total = cosines(first, second), torch.zeros((), dtype=torch.float64)
    views, both = len(table), labels * 2
    for i in range(views):
        positives = [partner(i, views)]
        positives += [j for j in range(views) if both[j] == both[i] >= 0 and j != i]
        everyone = sum(torch.exp(table[i][k] / tau) for k in range(views) if k != i)
        losses = [-torch.log(torch.exp(table[i][p] / tau) / everyone) for p in set(positives)]
        total = total + sum(losses) / len(losses)
    return total / views


def slow_suncet(first: Tensor, second: Tensor, labels: list[int], tau: float) -> Tensor:
    table, total = cosines(first, second), torch.zeros((), dtype=torch.float64)
    both = labels * 2
    known = [i for i in range(len(table)) if both[i] >= 0]
    for i in known:
        shares = {k: torch.exp(table[i][k] / tau) for k in known if k != i}
        same = [share for k, share in shares.items() if both[k] == both[i]]
        total = total - torch.log(torch.stack(same).sum() / torch.stack([*shares.values()]).sum())
    return total / max(len(known), 1)


def slow_hard_negative(
    first: Tensor, second: Tensor, tau: float, prior: float, beta: float
) -> Tensor:
    table, total = cosines(first, second), torch.zeros((), dtype=torch.float64)
    views = len(table)
    count = views - 2
    for i in range(views):
        positive = torch.exp(table[i][partner(i, views)] / tau)
        negatives = [
            torch.exp(table[i][k] / tau) for k in range(views) if k not in (i, partner(i, views))
        ]
        weights = [negative**beta for negative in negatives]
        pairs = zip(weights, negatives, strict=True)
        weighted = sum(w * e for w, e in pairs) / (sum(weights) / count)
        wrong = (weighted - count * prior * positive) / (1 - prior)
        wrong = torch.maximum(wrong, torch.tensor(count * math.exp(-1 / tau), dtype=torch.float64))
        total = total - torch.log(positive / (positive + wrong))
    return total / views


def slow_filter(
    first: Tensor, second: Tensor, tau: float, dropped: list[set[int]], attracted: list[set[int]]
) -> Tensor:
    table, total = cosines(first, second), torch.zeros((), dtype=torch.float64)
    views = len(table)
    for i in range(views):
        kept = [k for k in range(views) if k != i and k not in dropped[i]]
        everyone = sum(torch.exp(table[i][k] / tau) for k in kept)
        positives = {partner(i, views), *attracted[i]}
        losses = [-torch.log(torch.exp(table[i][p] / tau) / everyone) for p in positives]
        total = total + sum(losses) / len(losses)
    return total / views


def assert_equal_with_gradients(fast: Tensor, slow: Tensor, *inputs: Tensor) -> None:
    assert torch.allclose(fast, slow, rtol=1e-10, atol=1e-12), (fast, slow)
    found = torch.autograd.grad(fast, inputs, retain_graph=True)
    wanted = torch.autograd.grad(slow, inputs)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-11)
