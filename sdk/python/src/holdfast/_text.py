"""Text of others before a terminal or a message shows it: bounded, and without control characters.

A message may come from a registry, an image or a function. None of it is to move a cursor, hide
what was written before, or fill a screen. What a function prints is not taken through here: that is
its own output, as if it ran in this terminal.
"""

MESSAGE_LIMIT_CHARACTERS = 4096
"""Of a message in an error. Longer ones are no messages."""

TRACEBACK_LIMIT_CHARACTERS = 65536
"""More than a container may send of one."""


def printable(text: str, limit_characters: int = MESSAGE_LIMIT_CHARACTERS) -> str:
    """A text that may be shown: other lines and tabs stay, the rest is written as an escape."""
    if len(text) > limit_characters:
        left_out = len(text) - limit_characters
        text = f"{text[:limit_characters]}… {left_out} characters left out"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in "\n\t" else _escaped(character)
        for character in text
    )


def one_line(text: str, limit_characters: int) -> str:
    """The same on a single line."""
    return " ".join(printable(text, limit_characters).split())


def size(size_bytes: int) -> str:
    """A number of bytes for a reader."""
    amount = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
