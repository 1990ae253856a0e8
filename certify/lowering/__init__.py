"""Lowering: from a module of torch to steps that bounds are computed on."""
