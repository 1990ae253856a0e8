"""One batch of views for methods of robust training that need no attack."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustcl.training.losses.sums import LossBatch, Term, parse_losses, weighted_sum
from robustcl.training.robust import ViewsStep

COUNT = 6


class Counted(nn.Module):
    """Count the calls of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.network(images)


def bent(*, outputs: int = 5) -> nn.Sequential:
    """Build a smooth network, whose gradient changes from place to place."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 12), nn.Tanh(), nn.Linear(12, outputs))


def step_of(
    model: nn.Module, *, loss: str = "simclr", normal: Callable[[], Tensor] | None = None
) -> ViewsStep:
    """Return a batch of six images (2, 4, 4), two views each."""
    generator = torch.Generator().manual_seed(0)
    views = torch.rand(2 * COUNT, 2, 4, 4, generator=generator, dtype=torch.float64)
    views = views.to(next(model.parameters()).dtype)

    def losses(embeddings: Tensor, terms: tuple[Term, ...] = (), remembers: bool = False):
        batch = LossBatch(embeddings[:COUNT], embeddings[COUNT:], torch.arange(COUNT) % 2)
        return weighted_sum(terms or parse_losses(loss), batch)

    def fresh() -> Tensor:
        return torch.randn(views.shape, generator=generator, dtype=views.dtype)

    return ViewsStep(model, views, (COUNT, COUNT), model, losses, normal or fresh, generator)
