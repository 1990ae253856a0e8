"""Robust training: one file per method, and how their text is read."""

from robustcl.training.robust._acl import Acl, acl
from robustcl.training.robust._deacl import Deacl, deacl, student_loss
from robustcl.training.robust._dynacl import Dynacl, adversarial_share, dynacl, strength
from robustcl.training.robust._gradient_penalty import GradientPenalty, gradient_penalty
from robustcl.training.robust._noisy_views import NoisyViews, noisy_views
from robustcl.training.robust._rocl import Rocl, rocl
from robustcl.training.robust.inner_attack import InnerAttack
from robustcl.training.robust.lipschitz import Lipschitz
from robustcl.training.robust.methods import parse_robust
from robustcl.training.robust.views_step import ViewsStep

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
