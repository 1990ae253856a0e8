"""Cells of a suite: a model, or one measurement of it."""
