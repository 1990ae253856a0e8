"""Robust training: one file per method, and how their text is read."""

from robustcl.robust.gradient_penalty import GradientPenalty, gradient_penalty
from robustcl.robust.noisy_views import NoisyViews, noisy_views
from robustcl.robust.parse_robust import parse_robust
from robustcl.robust.views_step import ViewsStep

__all__ = [
    "GradientPenalty",
    "NoisyViews",
    "ViewsStep",
    "gradient_penalty",
    "noisy_views",
    "parse_robust",
]
