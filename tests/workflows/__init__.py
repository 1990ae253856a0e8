"""Tests of robustcl.workflows."""
