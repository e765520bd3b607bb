"""Sharing the built book: a local server, or one archive that opens from disk."""

import functools
import http.server
import logging
import tarfile
from pathlib import Path

import lrsc
from lrsc import files

_log = logging.getLogger(__name__)


def serve(html: Path, port: int = 8000) -> None:
    """Serve a folder on localhost until interrupted, and log the address.

    If the port is taken, any free one is used.
    """
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(html))
    try:
        server = http.server.ThreadingHTTPServer(("localhost", port), handler)
    except OSError:  # in use: any that is free
        server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
    with server:
        _log.info("the book: http://localhost:%d/ (Ctrl-C ends)", server.server_address[1])
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            _log.info("ended")


def archive(html: Path, folder: Path) -> Path:
    """Pack a built book as ``lrsc-book-VERSION.tar.gz`` with one top folder; returns its path."""
    if not (html / "index.html").is_file():
        raise ValueError(f"no book in {html}: build it first (lrsc book)")
    top = f"lrsc-book-{lrsc.__version__}"
    path = folder / f"{top}.tar.gz"
    with files.atomic(path) as part, tarfile.open(part, "w:gz") as file:
        file.add(html, top, filter=_anonymous)
    return path


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The archive member without its owner's names and numeric ids."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
