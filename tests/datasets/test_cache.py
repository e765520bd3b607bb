"""The cache of arrays: made once, whole or not at all, made again where damaged."""

import logging
import multiprocessing
import os
import time

import numpy as np
import pytest

from lrsc.datasets.raw import cache


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LRSC_CACHE", str(tmp_path / "cache"))


def make_x(folder):
    np.save(folder / "x.npy", np.arange(1000))


def test_made_once_and_mapped():
    made = []

    def make(folder):
        made.append(folder)
        make_x(folder)

    for _ in range(2):
        x = cache.arrays("sets/one", make)["x"]
        assert isinstance(x, np.memmap) and x.tolist() == list(range(1000))
    assert len(made) == 1 and not made[0].exists()
    assert [p.name for p in (cache.folder() / "sets").iterdir() if p.name[0] != "."] == ["one"]


def test_a_failure_leaves_nothing_and_the_next_one_succeeds():
    def fail(folder):
        make_x(folder)
        raise ValueError("no more images")

    with pytest.raises(ValueError, match="no more images"):
        cache.arrays("one", fail)
    assert [p.name for p in cache.folder().iterdir()] == [".one.lock"]
    assert len(cache.arrays("one", make_x)["x"]) == 1000


@pytest.mark.parametrize("damage", ["truncate", "remove", "files", "bit"])
def test_a_damaged_entry_is_made_again_with_a_warning(damage, caplog):
    cache.arrays("one", make_x)
    path = cache.folder() / "one" / ("files.json" if damage == "files" else "x.npy")
    if damage == "remove":
        path.unlink()
    elif damage == "bit":
        whole = path.read_bytes()
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    else:
        path.write_bytes(path.read_bytes()[:-8])
    with caplog.at_level(logging.WARNING):
        assert cache.arrays("one", make_x)["x"].tolist() == list(range(1000))
    assert "is damaged" in caplog.text and "made again" in caplog.text


def slow(folder):
    (cache.folder() / f"made-by-{os.getpid()}").touch()
    make_x(folder)
    time.sleep(0.5)


def load(key, results):
    results.put(int(cache.arrays(key, slow)["x"].sum()))


def test_of_processes_at_once_one_makes_the_entry_and_all_have_it():
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=load, args=("one", results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=1200) for _ in workers] == [499500] * 4
    for worker in workers:
        worker.join()
    assert len(list(cache.folder().glob("made-*"))) == 1


def test_of_a_very_large_file_blocks_all_over_it_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_BLOCK", 4)
    monkeypatch.setattr(cache, "_WHOLE", 100)
    monkeypatch.setattr(cache, "_SAMPLED", 40)
    path = tmp_path / "large"
    content = bytearray(range(200))
    path.write_bytes(content)
    before = cache._crc(path)
    seen = []
    for place in range(200):
        content[place] ^= 1
        path.write_bytes(content)
        seen.append(cache._crc(path) != before)
        content[place] ^= 1
    assert [i for i in range(200) if seen[i]] == [
        s + k for s in range(0, 200, 20) for k in range(4)
    ]
