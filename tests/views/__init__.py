"""Tests of robustcl.views."""
