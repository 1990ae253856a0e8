"""One batch of views on a small network with BatchNorm, for the methods of adversarial training."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from robustcl.attacks import inner_ascent
from robustcl.models.dual_batch_norm import split_batch_norm
from robustcl.training.losses.sums import LossBatch, Term, parse_losses, weighted_sum
from robustcl.training.robust.views_step import ViewsStep

LABELS = torch.arange(12) % 3


def network(*, norms: bool = True, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(72, 16)]
    return nn.Sequential(
        *(part for part in layers if norms or not isinstance(part, nn.BatchNorm2d))
    )


def one_step(model: nn.Module, *, loss: str = "simclr", split: bool = True) -> ViewsStep:
    """Return a batch of twelve images of three classes, two views each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 1, 8, 8, generator=generator)
    noise = 0.1 * torch.randn(2, *images.shape, generator=generator)
    views = (images + noise).clamp(0.0, 1.0).flatten(0, 1)
    if split:
        split_batch_norm(model)

    def losses(embeddings: Tensor, terms: tuple[Term, ...] = (), remembers: bool = False):
        batch = LossBatch(embeddings[:12], embeddings[12:], LABELS)
        return weighted_sum(terms or parse_losses(loss), batch)

    weights = tuple(model.parameters())
    model.train()
    return ViewsStep(
        model=model,
        views=views,
        sizes=(12, 12),
        encode=model,
        losses=losses,
        normal=lambda: torch.randn(views.shape, generator=generator),
        generator=generator,
        weights=weights,
        attack=inner_ascent,
    )


def with_attack(step: ViewsStep, attack) -> ViewsStep:
    """Return the batch with another attack."""
    return replace(step, attack=attack)


def grads(model: nn.Module, loss: Tensor) -> list[Tensor | None]:
    """Return the gradients by all weights, none of which is left behind."""
    return list(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
