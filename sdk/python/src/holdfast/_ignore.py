"""Which files stay here: a list of our own, and `.holdfastignore`, in the manner of `.gitignore`.

    # a comment        \\# a name that begins with one
    *.log              at any depth; `*` and `?` do not cross a slash, `[a-z]` and `[!a-z]` are sets
    /data              at the top only; so is anything with a slash in its middle
    build/             directories only
    a/**/b  **/b  a/** any number of directories
    !keep.log          not left out after all; the last pattern that fits decides

As in git, nothing below a directory that is left out can be taken back in, spaces at the end of
a line do not count, and case does. Other than in git there is one such file, at the top.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

FILE_NAME = ".holdfastignore"

DEFAULTS = """
.env*
*.pem
*.key
*.p12
*.pfx
*.jks
*.keystore
*.kdbx
id_rsa*
id_dsa*
id_ecdsa*
id_ed25519*
.netrc
_netrc
.pypirc
.npmrc
.pgpass
.my.cnf
.git-credentials
.htpasswd
.aws/
.azure/
.docker/
.gcloud/
.gnupg/
.kube/
.ssh/
.terraform/
*.tfstate*
application_default_credentials.json
.git
.hg
.svn
.bzr
__pycache__/
*.py[co]
.venv/
venv/
.tox/
.nox/
.mypy_cache/
.pytest_cache/
.ruff_cache/
.ipynb_checkpoints/
node_modules/
.idea/
.vscode/
.DS_Store
.#*
*.sw[op]
"""
"""Keys and credentials first, then what is large and made anew: `!` in a file takes each back."""


class Pattern(NamedTuple):
    """One line."""

    expression: re.Pattern[str]
    is_negated: bool
    is_directory_only: bool


class Ignore:
    """Patterns in order."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._patterns = [made for made in map(pattern, lines) if made is not None]
        self._patterns.reverse()

    def leaves_out(self, path: str, is_directory: bool) -> bool:
        """Whether a path, with `/` and from the top, is left out, its parents being in."""
        for expression, is_negated, is_directory_only in self._patterns:
            if (is_directory or not is_directory_only) and expression.fullmatch(path):
                return not is_negated
        return False

    def leaves_out_any(self, path: str, is_directory: bool) -> bool:
        """Whether a path or one of its parents is left out."""
        parts = path.split("/")
        return any(
            self.leaves_out("/".join(parts[:length]), is_directory or length < len(parts))
            for length in range(1, len(parts) + 1)
        )


def ignore(text: str) -> Ignore:
    """Our own list and, after it, what the user's file says."""
    return Ignore([*DEFAULTS.split("\n"), *text.removeprefix("\ufeff").split("\n")])


def pattern(line: str) -> Pattern | None:
    """A pattern out of a line, or none where there is none."""
    line = _without_trailing_blanks(line)
    if not line or line.startswith("#"):
        return None
    is_negated = line.startswith("!")
    if is_negated:
        line = line[1:]
    is_directory_only = line.endswith("/")
    if is_directory_only:
        line = line[:-1]
    is_anchored = "/" in line
    line = line.removeprefix("/")
    if not line:
        return None
    parts = line.split("/")
    if not is_anchored:
        parts.insert(0, "**")
    try:
        expression = re.compile(_expression(parts), re.DOTALL)
    except _Unmatchable:
        return None
    return Pattern(expression, is_negated, is_directory_only)


class _Unmatchable(Exception):
    """A pattern that is not finished fits nothing."""


def _expression(parts: list[str]) -> str:
    """A regular expression for the parts of a path."""
    made = ""
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if part == "**" and is_last:
            made += ".+" if index else ".*"
        elif part == "**":
            made += "(?:.*/)?" if index == 0 else "(?:[^/]+/)*"
        else:
            made += _part(part) + ("" if is_last else "/")
    return made


def _part(part: str) -> str:
    """A regular expression for one name."""
    made, index = "", 0
    while index < len(part):
        character = part[index]
        index += 1
        if character == "*":
            made += "[^/]*"
        elif character == "?":
            made += "[^/]"
        elif character == "\\":
            if index == len(part):
                raise _Unmatchable
            made += re.escape(part[index])
            index += 1
        elif character == "[":
            made_set, index = _set(part, index)
            made += made_set
        else:
            made += re.escape(character)
    return made


def _set(part: str, start: int) -> tuple[str, int]:
    """A set of characters, whose bracket is before `start`, and where it ends."""
    index = start
    is_negated = part[index : index + 1] in ("!", "^")
    index += is_negated
    items: list[str] = []
    while True:
        if index >= len(part):
            raise _Unmatchable
        if part[index] == "]" and items:
            break
        first, index = _set_character(part, index)
        last = first
        if part[index : index + 1] == "-" and part[index + 1 : index + 2] not in ("", "]"):
            last, index = _set_character(part, index + 1)
        # Of a range that goes backwards only its beginning is in it.
        items.append(f"{re.escape(first)}-{re.escape(last if first <= last else first)}")
    members = "".join(items)
    return (f"[^/{members}]" if is_negated else f"(?!/)[{members}]"), index + 1


def _set_character(part: str, index: int) -> tuple[str, int]:
    if part[index] == "\\":
        index += 1
        if index >= len(part):
            raise _Unmatchable
    return part[index], index + 1


def _without_trailing_blanks(line: str) -> str:
    line = line.removesuffix("\r")
    stripped = line.rstrip(" ")
    if stripped != line and stripped.endswith("\\") and _is_escape(stripped):
        return stripped + " "
    return stripped


def _is_escape(text: str) -> bool:
    """Whether the backslash at the end of a text escapes what follows."""
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1
