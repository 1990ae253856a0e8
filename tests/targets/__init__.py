"""Tests of robustcl.targets."""
