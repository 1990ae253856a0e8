"""Declare the optimizers: one row per optimizer."""

OPTIMIZERS: dict[str, str] = {  # MODULE:FUNCTION of `training`, of (weights, recipe)
    "adamw": "optimizers:build_adamw",
    "sgd": "optimizers:build_sgd",
    "lars": "optimizers:build_lars",
    "muon": "optimizers:build_muon",
}
