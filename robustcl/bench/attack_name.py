"""Name an attack of a suite, its package installed or not."""

import importlib.util

from robustcl import attacks

FOREIGN = "torchattacks"


def attack_name(text: str) -> str:
    """Return an attack's name in the table of attacks.

    Where torchattacks is absent, what a suite asks of it is left out with a message when the suite
    runs, so it is not an error to name it.

    Args:
        text: As in 'pgd:steps=100' or 'torchattacks:CW'.

    Returns:
        The name; options are checked where the attack is there.
    """
    if text.split(":")[0] == FOREIGN and importlib.util.find_spec(FOREIGN) is None:
        return FOREIGN
    return attacks.parse_attack(text).name
