"""Tests of robustcl.losses."""
