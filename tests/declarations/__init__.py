"""Tests of robustcl.declarations."""
