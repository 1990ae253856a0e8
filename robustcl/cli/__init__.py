"""Commands: one file each, an options dataclass and a function."""
