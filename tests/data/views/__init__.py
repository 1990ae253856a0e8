"""Tests of robustcl.data.views."""
