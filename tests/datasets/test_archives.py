"""Archives: whole or not at all, nothing outside their folder, every damage noticed."""

import contextlib
import gzip
import os
import re
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from packing import names, packed, read

from lrsc.datasets.raw import archives
from lrsc.datasets.raw.archives import extract

FORMS = ("tar", "tar.gz", "tar.xz", "tar.bz2", "zip")
FILES = {"a.txt": b"one", "b/c": repr([*range(900)]).encode(), "b/d/e": os.urandom(1500)}


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_is_unpacked_whole(tmp_path, form):
    archive = tmp_path / "archive"  # the kind is found by content
    archive.write_bytes(packed(FILES, form))
    extract(archive, tmp_path / "deep" / "out")
    assert read(tmp_path / "deep" / "out") == FILES
    assert names(tmp_path / "deep") == {"out", "out/a.txt", "out/b", "out/b/c", "out/b/d",
                                        "out/b/d/e"}  # fmt: skip
    assert stat.S_IMODE((tmp_path / "deep" / "out").stat().st_mode) == 0o755


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_a_single_top_folder_of_the_same_name_is_taken_off(tmp_path, form):
    archive = tmp_path / "archive"
    archive.write_bytes(packed({f"./out/{name}": data for name, data in FILES.items()}, form))
    extract(archive, tmp_path / "out")
    assert read(tmp_path / "out") == FILES
    extract(archive, tmp_path / "other")
    assert read(tmp_path / "other" / "out") == FILES
    archive.write_bytes(packed({"both/a": b"1", "b": b"2"}, form))
    extract(archive, tmp_path / "both")
    assert read(tmp_path / "both") == {"both/a": b"1", "b": b"2"}


OUTSIDE = ["../evil", "/evil", "a/../../evil", "a/..", "a\\..\\..\\evil", "C:/evil"]


@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_member_outside_the_folder_is_refused(tmp_path, form, name):
    archive = tmp_path / "archive"
    archive.write_bytes(packed({"good": b"1", name: b"2"}, form))
    with pytest.raises(ValueError, match=f"archive: member {re.escape(repr(name))} lies outside"):
        extract(archive, tmp_path / "sub" / "out")
    assert names(tmp_path) == {"archive", "sub"} and not Path("/evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE,
                                  tarfile.CHRTYPE, tarfile.BLKTYPE])  # fmt: skip
def test_links_and_devices_of_a_tar_are_refused(tmp_path, kind):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("good"))
        member = tarfile.TarInfo("bad")
        member.type, member.linkname = kind, "good"
        tar.addfile(member)
    with pytest.raises(ValueError, match=r"a\.tar: member 'bad' is a link or device"):
        extract(archive, tmp_path / "out")
    assert names(tmp_path) == {"a.tar"}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_of_a_zip_are_refused(tmp_path, kind):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("good", b"1")
        member = zipfile.ZipInfo("bad")
        member.external_attr = (kind | 0o644) << 16
        out.writestr(member, b"/etc/passwd")
    with pytest.raises(ValueError, match=r"a\.zip: member 'bad' is a link or device"):
        extract(archive, tmp_path / "out")
    assert names(tmp_path) == {"a.zip"}


@pytest.mark.parametrize("pair", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_a_member_that_comes_twice_is_refused(tmp_path, pair):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        for name in pair:
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match=r"a\.tar: member '.*' comes twice"):
        extract(archive, tmp_path / "out")
    assert names(tmp_path) == {"a.tar"}


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_archive_never_passes(tmp_path, form):
    whole = packed(FILES, form)
    kept = whole.rstrip(b"\0") if form == "tar" else whole  # a tar ends in padding
    archive = tmp_path / f"a.{form}"
    step = 512 if form == "tar" else max(1, len(kept) // 40)
    for length in [*range(0, len(kept), step), len(kept) - 1, len(kept) // 512 * 512 + 100]:
        archive.write_bytes(whole[: min(length, len(whole) - 1)])
        with pytest.raises(ValueError, match=rf"a\.{form} cannot be read to its end"):
            extract(archive, tmp_path / "out")
        assert names(tmp_path) == {archive.name}


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_archive_never_passes_for_another(tmp_path, form):
    whole = packed(FILES, form)
    archive = tmp_path / f"a.{form}"
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        altered = bytearray(whole)
        altered[at] ^= 0xFF
        archive.write_bytes(altered)
        with contextlib.suppress(ValueError):
            extract(archive, tmp_path / "out")
            if form != "tar":  # a tar has no sums of its content
                assert read(tmp_path / "out") == FILES
            for path in sorted((tmp_path / "out").rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (tmp_path / "out").rmdir()
        assert names(tmp_path) == {archive.name}


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    whole = bytearray(packed(FILES, "tar"))
    whole[1024 + 10] ^= 1  # the name in the second header: its sum is now wrong
    archive = tmp_path / "a.tar"
    archive.write_bytes(whole)
    with pytest.raises(ValueError, match=r"a\.tar cannot be read to its end: the mark of the end"):
        extract(archive, tmp_path / "out")


def test_what_is_no_archive_is_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"<html>" * 1000)
    with pytest.raises(ValueError, match=r"a\.tar cannot be read to its end"):
        extract(tmp_path / "a.tar", tmp_path / "out")


def test_an_existing_folder_is_not_touched(tmp_path):
    archive = tmp_path / "a.tar"
    archive.write_bytes(packed(FILES, "tar"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("1")
    with pytest.raises(ValueError, match="out exists already"):
        extract(archive, tmp_path / "out")
    assert read(tmp_path / "out") == {"mine": b"1"}


def test_an_interrupted_extraction_leaves_nothing(tmp_path, monkeypatch):
    archive = tmp_path / "a.tar"
    archive.write_bytes(packed(FILES, "tar"))
    whole = archives.members

    def stopped(*args):
        yield next(whole(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(archives, "members", stopped)
    with pytest.raises(KeyboardInterrupt):
        extract(archive, tmp_path / "out")
    assert names(tmp_path) == {"a.tar"}


def test_an_archive_inside_an_archive(tmp_path):
    archives.unpack(tmp_path / "outer.tar" / "inner.tar", tmp_path, packed(FILES, "tar"))
    assert read(tmp_path) == FILES
    with pytest.raises(ValueError, match=r"inner\.tar cannot be read"):
        archives.unpack(tmp_path / "outer.tar" / "inner.tar", tmp_path, b"x" * 100)


def test_a_gz_file_is_unpacked_in_place_of_an_old_one(tmp_path):
    content = bytes(range(256)) * 1200  # several blocks
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    (tmp_path / "a").write_bytes(b"old")
    archives.decompress(tmp_path / "a.gz", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == content
    for damaged in (gzip.compress(content)[:-5], b"no gz"):
        (tmp_path / "a.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.gz cannot be read to its end"):
            archives.decompress(tmp_path / "a.gz", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == content and names(tmp_path) == {"a", "a.gz"}


def test_a_zip_whose_list_hides_a_member_is_damaged(tmp_path):
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.txt", "first")
        packed.writestr("b.txt", "second")
    whole = path.read_bytes()
    at = whole.index(b"PK\1\2") + 33  # length of the comment, over which the next entry is skipped
    path.write_bytes(whole[:at] + b"\1" + whole[at + 1 :])
    with zipfile.ZipFile(path) as packed:
        assert packed.namelist() == ["a.txt"] and packed.testzip() is None
    with pytest.raises(ValueError, match="two.zip cannot be read to its end.*list of members"):
        list(archives.members(path))
