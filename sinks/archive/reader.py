"""What lies in the archive, from the files alone."""

from __future__ import annotations

from collections.abc import Iterator

from sinks.archive.fs import FileStatus, FileSystem
from sinks.archive.line import CorruptLineError, Line, parse_line
from sinks.archive.path import PartName, open_folder, parse_final, parse_open, topic_folder


def list_parts(fs: FileSystem, root: str, topic: str) -> Iterator[tuple[PartName, FileStatus]]:
    """Yield the committed files of a topic, by window, then the malformed ones by day."""
    top = topic_folder(root, topic)
    folders = [
        f"{day.name}/{window.name}" for day in fs.list(top) if day.name[:3] == "dt=" for window in fs.list(day.path)
    ]
    folders += [f"malformed/{day.name}" for day in fs.list(f"{top}/malformed")]
    for folder in folders:
        for status in fs.list(f"{top}/{folder}"):
            part = parse_final(folder, status.name)
            if part is not None:
                yield part, status


def list_open(fs: FileSystem, root: str, topic: str) -> Iterator[tuple[PartName, FileStatus]]:
    """Yield the files not committed yet, of live and dead owners; no copies (recovery keeps their originals)."""
    for folder in fs.list(open_folder(root, topic)):
        if not folder.name.isdecimal():
            continue
        for status in fs.list(folder.path):
            part = parse_open(topic, int(folder.name), status.name)
            if part is not None and not part.is_copy:
                yield part, status


def read_lines(fs: FileSystem, root: str, topic: str) -> Iterator[Line]:
    """Yield every line of a topic, some more than once; one that is committed or recovered meanwhile isn't missed.

    Of a file a live owner has open HDFS shows this client nothing: those lines come with its close. A torn tail of an
    open file is left out. Raises `CorruptLineError`.
    """
    # `_open` before the folders: files move from there to here. One that moved between list and read is looked
    # for again, as a recoverer may only have given it another name there.
    read: set[str] = set()
    moved = True
    while moved:
        moved = False
        for _, status in list_open(fs, root, topic):
            if status.path not in read:
                try:
                    yield from lines_of(fs, status.path, whole=False)
                    read.add(status.path)
                except FileNotFoundError:
                    moved = True
    for _, status in list_parts(fs, root, topic):
        yield from lines_of(fs, status.path, whole=True)


def lines_of(fs: FileSystem, path: str, *, whole: bool) -> Iterator[Line]:
    """Yield the lines of a file; a torn tail is an error in a `whole` one, else left out."""
    rest: list[bytes] = []
    for piece in fs.stream(path):
        *lines, tail = piece.split(b"\n")
        for line in lines:
            rest.append(line)
            yield parse_line(b"".join(rest))
            rest = []
        rest.append(tail)
    torn = b"".join(rest)
    if torn and whole:
        raise CorruptLineError(f"{path} ends without a newline", torn)
