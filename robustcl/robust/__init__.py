"""Robust training: one file per method, and how their text is read."""

from robustcl.robust.acl import Acl, acl
from robustcl.robust.deacl import Deacl, deacl, student_loss
from robustcl.robust.dynacl import Dynacl, adversarial_share, dynacl, strength
from robustcl.robust.gradient_penalty import GradientPenalty, gradient_penalty
from robustcl.robust.inner_attack import InnerAttack
from robustcl.robust.lipschitz import Lipschitz
from robustcl.robust.noisy_views import NoisyViews, noisy_views
from robustcl.robust.parse_robust import parse_robust
from robustcl.robust.rocl import Rocl, rocl
from robustcl.robust.views_step import ViewsStep

__all__ = [
    "Acl",
    "Deacl",
    "Dynacl",
    "GradientPenalty",
    "InnerAttack",
    "Lipschitz",
    "NoisyViews",
    "Rocl",
    "ViewsStep",
    "acl",
    "adversarial_share",
    "deacl",
    "dynacl",
    "gradient_penalty",
    "noisy_views",
    "parse_robust",
    "rocl",
    "strength",
    "student_loss",
]
