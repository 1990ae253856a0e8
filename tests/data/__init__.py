"""Tests of robustcl.data."""
