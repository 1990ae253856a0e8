"""Tests of robustcl.training.losses."""
