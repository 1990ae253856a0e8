"""Open a model as it was saved: a checkpoint, a weight file, a folder, or code of the user."""
