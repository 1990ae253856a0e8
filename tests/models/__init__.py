"""Tests of robustcl.models."""
