"""Training views, drawn in batches on the device, and fixed views for multi-view inference."""

from robustcl.data.views.colors import color_jitter, gaussian_blur
from robustcl.data.views.options import (
    COLOR_VIEWS,
    DIGIT_VIEWS,
    GRAY_VIEWS,
    ViewOptions,
    anneal_views,
    default_views,
    weak_views,
)
from robustcl.data.views.simclr import simclr_views
from robustcl.data.views.training_view import TrainingView

__all__ = [
    "COLOR_VIEWS",
    "DIGIT_VIEWS",
    "GRAY_VIEWS",
    "TrainingView",
    "ViewOptions",
    "anneal_views",
    "color_jitter",
    "default_views",
    "gaussian_blur",
    "simclr_views",
    "weak_views",
]
