"""Models: encoders, heads, checkpoints, views for inference."""
