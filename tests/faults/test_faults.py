"""A few faults of each kind: nothing is lost, repeated, half written or wrongly accepted.

`make soak` runs many more, of random seeds: soak.py.
"""

import random
import sys

import bad_inputs
import damaged
import killed
import pytest
import refused
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork server, limits and locks")

SAMPLE = {
    "sweep killed": lambda rng, folder: killed.sweep_killed(rng, folder, kills=2),
    "sweep shared by two": lambda rng, folder: killed.sweep_shared(rng, folder, 2, n=4),
    "sweep shared by eight": lambda rng, folder: killed.sweep_shared(rng, folder, 8, n=4, kills=2),
    "checkpoint killed": lambda rng, folder: killed.checkpoint_killed(rng, folder, kills=3),
    "cache killed": lambda rng, folder: killed.cache_killed(rng, folder, kills=3),
    "book killed": lambda rng, folder: killed.book_killed(rng, folder, kills=1),
    "clock set back": killed.clock_set_back,
    "disk full": refused.disk_full,
    "device full": refused.full_device,
    "sweep on a full disk": refused.sweep_on_a_full_disk,
    "folders that refuse": refused.refusing_folders,
    "too many open files": refused.too_many_open_files,
    "files damaged": lambda rng, folder: damaged.files_damaged(rng, folder, each=10),
    "result damaged in a sweep": damaged.result_damaged_in_a_sweep,
    "bad configurations": bad_inputs.configurations,
    "metrics fed with anything": lambda rng, folder: bad_inputs.metrics_fed(rng, folder, 100),
}


@pytest.mark.parametrize("kind", SAMPLE)
def test_faults_do_no_harm(kind, tmp_path):
    counts = SAMPLE[kind](random.Random(kind), tmp_path)
    assert counts.harmless, "\n".join([str(counts), *counts.wrong])
    if kind == "device full" and not counts.faults:
        pytest.skip("no file system of its own can be mounted here")
    assert counts.faults


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return damaged.readers(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("kind", ["result", "checkpoint", "weights", "archive .zip"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(readers, kind, data):
    """As `files damaged`, with hypothesis looking for the place."""
    path, read = readers[kind]
    whole, expected = path.read_bytes(), read()
    at = data.draw(st.integers(0, len(whole) - 1), label="place")
    value = data.draw(st.integers(0, 255), label="byte")
    path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
    try:
        found, said = read(), ""
    except ValueError as error:
        found, said = None, str(error)
    path.write_bytes(whole)
    assert path.name in said or damaged.same(expected, found)
