"""The audit: certificates and attacks on the same images, written to a run folder."""

from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.evaluation.reproducer import load_reproducer, replay, save_reproducer

__all__ = ["EvaluationConfig", "evaluate", "load_reproducer", "replay", "save_reproducer"]
