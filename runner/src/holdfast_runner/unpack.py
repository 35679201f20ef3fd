"""Unpacks the archive with the user's code, inside the container and as its own user.

Whatever an archive does here it does to a container that is its author's anyway. What is refused
would mean one thing to one reader and another to the next, or would fill the disk. Lengths are
counted as they are written: what a header says of them is not believed. The archive's own list of
entries is in memory as a whole; the worker bounds it with the archive's length.
"""

import os
import stat
import struct
import zipfile
import zlib

from holdfast_runner.errors import CodeRefused

COPY_BYTES = 262144
"""Memory that one entry takes while it is unpacked."""

SHOWN_NAME_CHARACTERS = 200
"""How much of an entry's name goes into a message."""

FLAGS_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
FLAG_PATCH = 0x0020
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

FILE_MODE = 0o644
EXECUTABLE_MODE = 0o755

UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)
"""All that `zipfile` raises over an archive that lies."""


def unpack(archive_path: str, directory: str, entries_limit: int, bytes_limit: int) -> None:
    """Unpacks an archive into a directory that is there, or raises `CodeRefused`."""
    try:
        archive = zipfile.ZipFile(archive_path)
    except UNREADABLE as error:
        raise CodeRefused("the archive cannot be read: %s" % error) from error
    with archive:
        entries = archive.infolist()
        if len(entries) > entries_limit:
            raise CodeRefused(
                "the archive has %d entries, more than %d" % (len(entries), entries_limit)
            )
        names = set()
        for entry in entries:
            name = checked_name(entry)
            if name in names:
                raise refused(entry, "is there twice")
            names.add(name)
        left_bytes = bytes_limit
        for entry in entries:
            try:
                left_bytes -= write_entry(archive, entry, directory, left_bytes)
            except CodeRefused:
                raise
            except UNREADABLE as error:
                raise refused(entry, "cannot be unpacked: %s" % error) from error


def checked_name(entry: zipfile.ZipInfo) -> str:
    """The path of an entry below the directory; raises if the entry is not one to unpack."""
    # `filename` ends at a NUL and has separators exchanged; this is what the archive has.
    name = entry.orig_filename
    is_directory = name.endswith("/")
    path = name[:-1] if is_directory else name
    if "\0" in name or "\\" in name:
        raise refused(entry, "has a backslash or a NUL in its name")
    if name.startswith("/"):
        raise refused(entry, "has an absolute path")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise refused(entry, "has a path that is not a plain one")
    if entry.flag_bits & FLAGS_ENCRYPTED:
        raise refused(entry, "is encrypted")
    if entry.flag_bits & FLAG_PATCH or entry.compress_type not in METHODS:
        raise refused(entry, "is compressed in another way than by deflate")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if is_directory else stat.S_IFREG):
        raise refused(entry, "is no file and no directory")
    return path


def write_entry(archive, entry: zipfile.ZipInfo, directory: str, left_bytes: int) -> int:
    """Unpacks one entry, and gives how many bytes it took."""
    path = os.path.join(directory, checked_name(entry))
    if entry.orig_filename.endswith("/"):
        os.makedirs(path, exist_ok=True)
        if entry.file_size:
            raise refused(entry, "is a directory with content")
        return 0
    os.makedirs(os.path.dirname(path), exist_ok=True)
    is_executable = (entry.external_attr >> 16) & 0o111
    mode = EXECUTABLE_MODE if is_executable else FILE_MODE
    # Nothing is overwritten and no link is followed, should the image have something there.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    written_bytes = 0
    with open(descriptor, "wb") as file, archive.open(entry) as content:
        while True:
            piece = content.read(COPY_BYTES)
            if not piece:
                break
            written_bytes += len(piece)
            if written_bytes > left_bytes:
                raise refused(entry, "is where the code becomes longer than it may be")
            file.write(piece)
    if written_bytes != entry.file_size:
        raise refused(entry, "is not as long as it says")
    return written_bytes


def refused(entry: zipfile.ZipInfo, what: str) -> CodeRefused:
    """The error that names an entry, in a form that is safe to show."""
    return CodeRefused("entry %s %s" % (ascii(entry.orig_filename[:SHOWN_NAME_CHARACTERS]), what))
