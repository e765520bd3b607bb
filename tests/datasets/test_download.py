"""Downloads from a server of this machine with every fault we know, and hostile archives."""

import contextlib
import functools
import hashlib
import http.server
import json
import logging
import os
import signal
import socket
import threading
import time

import pytest
from packing import names, packed

from lrsc.datasets.raw import download
from lrsc.datasets.raw.download import File, fetch
from lrsc.errors import DataMissing
from lrsc.files import locked

CONTENT = bytes(range(256)) * 1200  # 307 200 bytes: several blocks


class Server:
    """Files over plain HTTP on 127.0.0.1, and a log of the requests.

    add(name, content, *faults): one fault for each answer in turn, the last for all further ones.
    None: none. 'no length', ('cut', n) closes after n bytes, ('status', code), ('redirect', url),
    ('stop', part) presses Ctrl-C half-way.
    """

    def __init__(self):
        self.files, self.faults, self.log = {}, {}, []

    def __enter__(self):
        handler = functools.partial(_Handler, self)
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{name}"

    def add(self, name: str, content: bytes, *faults) -> str:
        self.files[name], self.faults[name] = content, [*faults]
        return self.url(name)


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args):
        self.mine = server
        super().__init__(*args)

    def log_message(self, *_):
        pass

    def do_GET(self):
        with contextlib.suppress(ConnectionError):
            self.answer(self.path.lstrip("/"), self.headers.get("Range"))

    def answer(self, name, asked):
        self.mine.log.append((name, asked))
        faults = self.mine.faults.get(name) or [None]
        fault = (faults.pop(0) if len(faults) > 1 else faults[0]) or "none"
        kind, *value = (fault,) if isinstance(fault, str) else fault
        if kind == "status" or name not in self.mine.files:
            return self.send_error(value[0] if value else 404)
        if kind == "redirect":
            return self.head(302, Location=value[0])
        content = self.mine.files[name]
        headers = {} if kind == "no length" else {"Content_Length": len(content)}
        self.head(200, **headers)
        self.body(content, kind, value)

    def head(self, status, **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, body, kind, value):
        if kind == "cut":
            body = body[: value[0]]
        if kind != "stop":
            return self.wfile.write(body)
        self.wfile.write(body[: len(body) // 2])
        while not value[0].exists() or not value[0].stat().st_size:
            time.sleep(0.001)  # until some of it lies on disk
        os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        yield running


def published(*urls: str, content: bytes = CONTENT, **other) -> File:
    """A file as published, with its true size and MD5 unless other ones are given."""
    facts = {"size": len(content), "md5": hashlib.md5(content).hexdigest(), "source": "this test"}
    return File("set/file.bin", urls, **facts | other)


@pytest.fixture
def part(tmp_path):
    """Where a download grows; its folder is there."""
    (tmp_path / "set").mkdir()
    return tmp_path / "set" / "file.bin.part"


# Fetching


def test_a_file_is_fetched_and_its_sha256_recorded(server, tmp_path):
    path = fetch(published(server.add("a", CONTENT)), tmp_path)
    assert path == tmp_path / "set" / "file.bin" and path.read_bytes() == CONTENT
    assert names(tmp_path) == {"set", "set/file.bin", "checksums.json"}
    known = json.loads((tmp_path / "checksums.json").read_text())
    assert known == {"set/file.bin": hashlib.sha256(CONTENT).hexdigest()}
    assert server.log == [("a", None)]


def test_a_published_sha256_is_checked_and_nothing_is_recorded(server, tmp_path):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    fetch(published(server.add("a", CONTENT), sha256=sha256), tmp_path)
    assert names(tmp_path) == {"set", "set/file.bin"}
    (tmp_path / "set" / "file.bin").unlink()
    with pytest.raises(DataMissing, match=f"SHA-256 found {sha256}, expected {'0' * 64}"):
        fetch(published(server.url("a"), sha256="0" * 64), tmp_path)


def test_a_part_that_a_killed_process_left_is_written_over(server, tmp_path, part):
    part.write_bytes(b"x" * 400_000)
    assert fetch(published(server.add("a", CONTENT)), tmp_path).read_bytes() == CONTENT
    assert server.log == [("a", None)] and not part.exists()


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_broken_connection_is_tried_again_at_once(server, tmp_path, size):
    file = published(server.add("a", CONTENT, ("cut", 200_000), None), size=size)
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    assert server.log == [("a", None)] * 2


def test_a_server_that_cuts_every_answer_is_given_up(server, tmp_path):
    file = published(server.add("a", CONTENT, ("cut", 110_000)))
    with pytest.raises(DataMissing, match="110000 bytes read, 197200 more expected"):
        fetch(file, tmp_path)
    assert len(server.log) == download.TRIES and names(tmp_path) == {"set"}


def test_an_error_of_the_server_is_named_and_not_tried_again(server, tmp_path):
    url = server.add("a", CONTENT, ("cut", 200_000), ("status", 503), None)
    with pytest.raises(DataMissing, match="503 Server Error"):
        fetch(published(url), tmp_path)
    assert len(server.log) == 2 and names(tmp_path) == {"set"}
    assert fetch(published(url), tmp_path).read_bytes() == CONTENT


def test_wrong_content_is_discarded_and_named(server, tmp_path):
    altered = CONTENT[:-1] + b"!"
    md5 = [hashlib.md5(c).hexdigest() for c in (altered, CONTENT)]
    with pytest.raises(DataMissing, match=f"MD5 found {md5[0]}, expected {md5[1]}"):
        fetch(published(server.add("a", altered)), tmp_path)
    assert names(tmp_path) == {"set"}


def test_a_wrong_size_is_refused_before_anything_is_read(server, tmp_path):
    url = server.add("a", b"<html>please log in</html>")
    with pytest.raises(DataMissing, match="offers 26 bytes, published are 307200"):
        fetch(published(url), tmp_path)
    assert names(tmp_path) == {"set"}


def test_a_wrong_size_is_found_without_the_servers_word(server, tmp_path):
    url = server.add("a", CONTENT[:-1], "no length")
    with pytest.raises(DataMissing, match="307199 bytes, expected 307200"):
        fetch(published(url), tmp_path)
    assert names(tmp_path) == {"set"}


def test_the_second_mirror_is_asked_where_the_first_fails(server, tmp_path, caplog):
    first = server.add("a", CONTENT, ("cut", 200_000), ("status", 503))
    second = server.add("b", CONTENT)
    assert fetch(published(first, second), tmp_path).read_bytes() == CONTENT
    assert server.log == [("a", None), ("a", None), ("b", None)]
    assert f"{first}: 503 Server Error" in caplog.text


def test_a_mirror_with_other_bytes_does_not_spoil_the_next(server, tmp_path):
    first, second = server.add("a", CONTENT[::-1]), server.add("b", CONTENT)
    assert fetch(published(first, second), tmp_path).read_bytes() == CONTENT
    assert server.log == [("a", None), ("b", None)]


def test_without_a_network_one_message_says_all(tmp_path):
    with socket.socket() as unused:  # bound, not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
        file = published(url, sha256="ab" * 32)
        with pytest.raises(DataMissing) as error:
            fetch(file, tmp_path)
    text = str(error.value)
    for part in (f"{url}: ", "refused", file.md5, "ab" * 32, "307200 bytes", "run the same command",
                 str(tmp_path / "set"), "file.bin could not be fetched"):  # fmt: skip
        assert part in text
    assert isinstance(error.value, FileNotFoundError) and names(tmp_path) == {"set"}


def test_a_file_without_addresses_says_what_to_do_by_hand(tmp_path):
    file = File("set/file.bin", page="https://example.org/terms", md5="0" * 32, source="the page")
    with pytest.raises(DataMissing, match=r"by hand(.|\n)*example.org/terms(.|\n)*" + "0" * 32):
        fetch(file, tmp_path)
    assert names(tmp_path) == set()


def test_ctrl_c_leaves_nothing_and_the_next_call_fetches(server, tmp_path, part):
    file = published(server.add("a", CONTENT, ("stop", part), None))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch(file, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert names(tmp_path) == {"set"}
    assert fetch(file, tmp_path).read_bytes() == CONTENT


def test_another_process_that_fetches_is_not_disturbed(server, tmp_path, part):
    part.write_bytes(CONTENT[:10])
    with locked(part), pytest.raises(ValueError, match="another process is fetching file.bin"):
        fetch(published(server.add("a", CONTENT)), tmp_path)
    assert part.read_bytes() == CONTENT[:10] and server.log == []


@pytest.mark.parametrize(
    "url", ["http://example.org/a", "ftp://127.0.0.1/a", "file:///a", "http://127.0.0.1.evil.org/"]
)
def test_only_https(url):
    with pytest.raises(ValueError, match="not an https address"):
        File("a", (url,))


def test_a_redirection_away_from_https_is_refused(server, tmp_path):
    elsewhere = server.add("b", CONTENT).replace("127.0.0.1", "localhost")
    url = server.add("a", CONTENT, ("redirect", elsewhere))
    with pytest.raises(DataMissing, match="localhost.*not an https address"):
        fetch(published(url), tmp_path)
    assert server.log == [("a", None)]


def test_a_redirection_that_is_allowed_is_followed(server, tmp_path):
    url = server.add("a", CONTENT, ("redirect", server.add("b", CONTENT)))
    assert fetch(published(url), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("fact", [{"md5": "0" * 32}, {"sha256": "0" * 64}, {"size": 1}])
def test_a_digest_without_a_source_is_a_defect(fact):
    with pytest.raises(ValueError, match="needs its source"):
        File("a", **fact)


# Files for which the publisher states no digest


def test_without_a_digest_the_first_sha256_is_kept_and_another_refused(server, tmp_path):
    archive = packed({"a": b"1"})
    file = File("a.tar.gz", (server.add("a", archive),), into="a", unpack="archive")
    path = fetch(file, tmp_path)
    sha256 = hashlib.sha256(archive).hexdigest()
    assert download.recorded(tmp_path) == {"a.tar.gz": sha256}
    assert download.problem(file, path, sha256) == ""
    server.add("a", packed({"a": b"2"}))
    path.unlink()
    with pytest.raises(DataMissing, match=f"expected {sha256}, as recorded at its first download"):
        fetch(file, tmp_path)
    assert not path.exists() and download.recorded(tmp_path) == {"a.tar.gz": sha256}


def test_a_recorded_sha256_is_checked_beside_a_published_md5(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    file = File("a", md5=hashlib.md5(CONTENT).hexdigest(), source="this test")
    assert download.problem(file, tmp_path / "a") == ""
    assert "as recorded" in download.problem(file, tmp_path / "a", "0" * 64)


def test_without_a_digest_an_archive_must_be_readable_to_its_end(server, tmp_path):
    archive = packed({"a": os.urandom(3000)})[:-4]
    file = File("a.tar.gz", (server.add("a", archive),), into="a", unpack="archive")
    with pytest.raises(DataMissing, match="cannot be read to its end"):
        fetch(file, tmp_path)
    assert names(tmp_path) == set()


def test_records_are_added_and_never_changed(tmp_path):
    a, b = File("a"), File("b")
    for file in (a, b):
        (tmp_path / file.path).write_bytes(b"1")
    download.record(tmp_path, a)
    first = download.recorded(tmp_path)
    (tmp_path / "a").write_bytes(b"2")
    download.record(tmp_path, a, b)
    assert download.recorded(tmp_path) == first | {"b": hashlib.sha256(b"1").hexdigest()}


def test_a_damaged_list_of_checksums_is_named(tmp_path):
    (tmp_path / "checksums.json").write_text("{")
    with pytest.raises(ValueError, match=r"checksums\.json is damaged"):
        download.recorded(tmp_path)


def test_what_is_fetched_is_logged(server, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        fetch(published(server.add("a", CONTENT)), tmp_path)
    assert "file.bin: fetched and verified" in caplog.text
