"""Study whether inference with many views helps."""
