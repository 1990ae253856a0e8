"""What each command takes: one dataclass per command. Nothing here loads torch."""
