"""The audit: certificates and attacks on the same images, written to a run folder."""

from robustcl.auditing.audit import Audit
from robustcl.auditing.evaluate import evaluate
from robustcl.auditing.reproducer import load_reproducer, replay, save_reproducer

__all__ = ["Audit", "evaluate", "load_reproducer", "replay", "save_reproducer"]
