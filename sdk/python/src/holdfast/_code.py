"""The user's directory as an archive: the same files give the same bytes, whoever packs them when.

Sorted, one date for all, and of the mode only whether a file can be executed. What `_ignore` leaves
out is not looked at. A symbolic link becomes what it leads to, if that is in the directory and not
left out; one that leads elsewhere is refused by name. Directories are not entries, and what is no
file, such as a socket, is left out.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from holdfast._exceptions import CodeError
from holdfast._ignore import FILE_NAME, Ignore, ignore
from holdfast._text import size

ENTRIES_LIMIT = 10_000
"""Files. A directory with more is not only code."""

BYTES_LIMIT = 64 << 20
"""All files together, unpacked, since the archive is made in memory."""

FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that an archive can say."""

LEVEL = 6
LARGEST_SHOWN = 3


@dataclass(frozen=True)
class Code:
    """An archive, and the name that its bytes give it."""

    digest: str
    archive: bytes = field(repr=False)
    files: int


def pack(root: str) -> Code:
    """The archive of a directory, or why there is none."""
    paths = sorted(find(root, read_ignore(root)))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        left_bytes = BYTES_LIMIT
        for path in paths:
            content, is_executable = _read(root, path, left_bytes)
            left_bytes -= len(content)
            archive.writestr(_entry(path, is_executable), content, compresslevel=LEVEL)
    content = written.getvalue()
    return Code(f"sha256:{hashlib.sha256(content).hexdigest()}", content, len(paths))


def read_ignore(root: str) -> Ignore:
    """Our own list and the file that may be at the top of a directory."""
    try:
        with open(os.path.join(root, FILE_NAME), encoding="utf-8") as file:
            return ignore(file.read())
    except FileNotFoundError:
        return ignore("")
    except (OSError, UnicodeDecodeError) as error:
        raise CodeError(f"{FILE_NAME} cannot be read: {error}") from None


def find(root: str, ignored: Ignore) -> list[str]:
    """The files of a directory that are sent, with `/` and from the top; their size is checked."""
    found = list(_walk(root, ignored))
    total_bytes = sum(size_bytes for size_bytes, _ in found)
    if total_bytes > BYTES_LIMIT:
        raise _too_long(root, total_bytes, found)
    return [path for _, path in found]


@dataclass(frozen=True)
class _Directory:
    """A directory that is walked: its path, where it really is, and where those above it are."""

    path: str
    real: str
    above: tuple[str, ...]


def _walk(root: str, ignored: Ignore) -> Iterator[tuple[int, str]]:
    """How long the files below a directory are, and their paths."""
    real_root = os.path.realpath(root)
    pending = [_Directory("", real_root, ())]
    seen = 0
    while pending:
        directory = pending.pop()
        for entry in _scan(directory):
            path = f"{directory.path}/{entry.name}" if directory.path else entry.name
            is_directory = entry.is_dir()
            if ignored.leaves_out(path, is_directory):
                continue
            seen += 1
            if seen > ENTRIES_LIMIT:
                raise CodeError(
                    f"{root} has over {ENTRIES_LIMIT} files and directories"
                    f"\nhint: leave some out by {FILE_NAME}"
                )
            _check_path(path)
            real = os.path.join(directory.real, entry.name)
            if entry.is_symlink():
                real = os.path.realpath(real)
                if not _is_sent(real_root, real, path, is_directory, ignored):
                    continue
            if is_directory:
                below = _Directory(path, real, (*directory.above, directory.real))
                if real in below.above:
                    raise CodeError(f"{_shown(path)} is a link to a directory that it is in")
                if not _is_virtual_environment(real):
                    pending.append(below)
            else:
                status = os.stat(real)
                if stat.S_ISREG(status.st_mode):
                    yield status.st_size, path


def _scan(directory: _Directory) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory.real) as entries:
            return list(entries)
    except OSError as error:
        shown = _shown(directory.path or directory.real)
        raise CodeError(f"{shown} cannot be read: {error.strerror}") from None


def _is_sent(real_root: str, real: str, path: str, is_directory: bool, ignored: Ignore) -> bool:
    """Whether what a link leads to is sent; raises if it is not ours to send."""
    if real != real_root and not real.startswith(os.path.join(real_root, "")):
        raise CodeError(
            f"{_shown(path)} is a link to {_shown(real)}, outside of the directory that is sent"
            f"\nhint: copy what it leads to, or leave it out by {FILE_NAME}"
        )
    target = os.path.relpath(real, real_root).replace(os.sep, "/")
    if not os.path.exists(real):
        return False
    return target == "." or not ignored.leaves_out_any(target, is_directory)


def _is_virtual_environment(directory: str) -> bool:
    return os.path.exists(os.path.join(directory, "pyvenv.cfg"))


def _check_path(path: str) -> None:
    """Refuses names that an archive, or a container, would read in another way."""
    if "\\" in path or any("\ud800" <= character <= "\udfff" for character in path):
        raise CodeError(
            f"{_shown(path)} has a name that cannot be sent\nhint: rename it, or leave it out by "
            f"{FILE_NAME}"
        )


def _read(root: str, path: str, left_bytes: int) -> tuple[bytes, bool]:
    """A file, and whether it can be executed."""
    try:
        with open(os.path.join(root, path), "rb") as file:
            content = file.read(left_bytes + 1)
            is_executable = bool(os.fstat(file.fileno()).st_mode & stat.S_IXUSR)
    except OSError as error:
        raise CodeError(f"{_shown(path)} cannot be read: {error.strerror}") from None
    if len(content) > left_bytes:
        raise CodeError(f"{_shown(path)} became longer while it was read")
    return content, is_executable


def _entry(path: str, is_executable: bool) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, FIRST_DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | (0o755 if is_executable else 0o644)) << 16
    # Otherwise the archive would tell the system that it was made on.
    entry.create_system = 3
    return entry


def _too_long(root: str, total_bytes: int, sizes: list[tuple[int, str]]) -> CodeError:
    largest = sorted(sizes, reverse=True)[:LARGEST_SHOWN]
    shown = ", ".join(f"{_shown(path)} ({size(size_bytes)})" for size_bytes, path in largest)
    return CodeError(
        f"{root} has {size(total_bytes)} of files, and {size(BYTES_LIMIT)} are sent at most; the "
        f"largest are {shown}\nhint: leave some out by {FILE_NAME}, or put them into the image"
    )


def _shown(path: str) -> str:
    return path if path.isprintable() else ascii(path)
