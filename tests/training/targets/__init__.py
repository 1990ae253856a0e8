"""Tests of robustcl.training.targets."""
