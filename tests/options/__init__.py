"""Tests of robustcl.options."""
