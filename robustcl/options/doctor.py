"""State the options of `robustcl doctor`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """Run the self-tests and print versions and the device; exit code 4 when one fails.

    Args:
        device: cpu, cuda, ...
        seed: Seed of the models and the attacks.
        json: Write one JSON object on stdout.
    """

    device: str = "cpu"
    seed: int = 0
    json: bool = False
