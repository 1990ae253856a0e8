"""Show text of others without letting it act on the terminal."""

NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""Escape what is no visible character, as `repr` does, but without quotes.

    A file name or a class name may hold escape sequences that move the cursor, recolor what follows
    or change the title of the window, marks that turn the direction of reading, or newlines that
    look like a message of ours.

    Args:
        text: Any text; half of a surrogate pair, as in a file name that is not UTF-8, is allowed.

    Returns:
        One line in which control characters, separators other than a space, and marks without a
        shape are written as \n, \x1b, \u202e and so on.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    if sign in NAMED:
        return NAMED[sign]
    code = ord(sign)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )
