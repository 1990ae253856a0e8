"""Tests of robustcl.training."""
