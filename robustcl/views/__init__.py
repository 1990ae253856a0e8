"""Training views, drawn in batches on the device, and fixed views for multi-view inference."""

from robustcl.views.anneal_views import anneal_views, weak_views
from robustcl.views.color_jitter import color_jitter
from robustcl.views.gaussian_blur import gaussian_blur
from robustcl.views.inference_views import (
    crop_views,
    draw_views,
    noise_views,
    parse_views,
    shift_views,
    training_views,
)
from robustcl.views.linear_view import LinearView
from robustcl.views.multi_view import MultiView, aggregated
from robustcl.views.random_views import RandomViews
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
    "LinearView",
    "MultiView",
    "RandomViews",
    "TrainingView",
    "ViewOptions",
    "aggregated",
    "anneal_views",
    "color_jitter",
    "crop_views",
    "default_views",
    "draw_views",
    "gaussian_blur",
    "noise_views",
    "parse_views",
    "shift_views",
    "simclr_views",
    "training_views",
    "weak_views",
]
