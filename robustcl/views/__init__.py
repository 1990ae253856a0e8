"""Training views, drawn in batches on the device, and fixed views for multi-view inference."""

from robustcl.views.anneal_views import anneal_views, weak_views
from robustcl.views.color_jitter import color_jitter
from robustcl.views.gaussian_blur import gaussian_blur
from robustcl.views.simclr_views import simclr_views
from robustcl.views.training_view import TrainingView
from robustcl.views.view_options import (
    COLOR_VIEWS,
    DIGIT_VIEWS,
    GRAY_VIEWS,
    ViewOptions,
    default_views,
)

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
