"""Make file names of method names."""

import hashlib
import re


def short_file(*names: str) -> str:
    """Spell names, such as 'smoothing:sigma=.25,n=1000', so that they can be part of a file name.

    Args:
        *names: Names of methods.

    Returns:
        Letters, digits, dots and dashes; different names give different texts.
    """
    text = "-".join(names)
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")
    if plain == text and len(text) <= 60:
        return text
    return f"{plain[:50]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
