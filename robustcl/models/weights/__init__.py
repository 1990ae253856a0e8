"""Weight files of others: read them, find the networks inside, name and place their tensors."""
