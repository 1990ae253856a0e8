"""Make file names of method names."""

import hashlib
import re

from robustcl.core.listing import objection_to_name


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


def file_name(text: str) -> str:
    """Spell a text, such as a label that the user chose, as the name of a file, without its ending.

    Args:
        text: The text.

    Returns:
        The text with dashes for separators; `short_file` of it where it is no plain name even so.
    """
    plain = text.replace("/", "-")
    return plain if objection_to_name(plain, longest=200) is None else short_file(text)
