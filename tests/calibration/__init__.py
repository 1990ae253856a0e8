"""Tests of robustcl.calibration."""
