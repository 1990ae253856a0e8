"""What attacks, certificates, losses, heads and the like are, as plain data, without torch."""
