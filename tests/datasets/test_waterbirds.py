"""Waterbirds in its published layout: labels, splits, faults."""

import csv
import shutil

import pytest
import torch
from packing import published_form

from lrsc.datasets import waterbirds
from lrsc.datasets.images import decode
from lrsc.errors import DataMissing


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return published_form("waterbirds", tmp_path_factory.mktemp("waterbirds"))


@pytest.fixture
def root(drawn, tmp_path, monkeypatch):
    monkeypatch.setenv("LRSC_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(drawn, tmp_path / "root")


def folder(root):
    return root / "waterbirds" / waterbirds.FOLDER


def load(root, size=16, **options):
    return waterbirds.build(waterbirds.find(root, "real"), size=size, **options)


def edit(root, line, text):
    """Replace line (from 1) of metadata.csv; None deletes it."""
    path = folder(root) / "metadata.csv"
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_text("\n".join(lines) + "\n")


def test_labels_places_and_splits_are_those_of_the_list(root):
    ds = load(root)
    with (folder(root) / "metadata.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["img_filename"])
    for k, split in enumerate((ds.train, ds.val, ds.test)):
        mine = [row for row in rows if row["split"] == str(k)]
        assert split.y.tolist() == [int(row["y"]) for row in mine]
        assert split.bias.tolist() == [int(row["place"]) for row in mine]
        images = [decode(folder(root) / row["img_filename"], 16, 18) for row in mine]
        assert torch.equal(split.x[:], torch.stack([torch.from_numpy(x) for x in images]))
    assert [len(s) for s in (ds.train, ds.val, ds.test)] == [40, 10, 20]
    assert ds.class_names == ("landbird", "waterbird") and ds.source_id == "waterbirds"
    assert torch.bincount(ds.train.y * 2 + ds.train.bias).tolist() == [18, 2, 2, 18]
    # unbiased: each kind of bird on both backgrounds equally often
    assert torch.bincount(ds.test.y * 2 + ds.test.bias).tolist() == [5, 5, 5, 5]
    assert ds.rho == 0.1 and ds.train.core_mask is None and ds.train.spurious_mask is None


def test_the_order_of_the_list_does_not_matter(root):
    before = load(root)
    path = folder(root) / "metadata.csv"
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(lines)]) + "\n")
    after = load(root)
    assert torch.equal(after.train.bias, before.train.bias)
    assert torch.equal(after.train.x[:], before.train.x[:])


def test_n_train_keeps_the_groups_in_proportion(root):
    train = load(root, n_train=20).train
    assert torch.bincount(train.y * 2 + train.bias).tolist() == [9, 1, 1, 9]


@pytest.mark.parametrize(
    ("line", "text", "words"),
    [
        (1, "img_id,img_filename,y,split,site", r"csv, line 1: .* expected a column 'place'"),
        (5, "4,a.jpg,2,0,0,/x", r"line 5: found '2', expected y, a number from 0 to 1"),
        (5, "4,a.jpg,1,3,0,/x", r"line 5: found '3', expected split, a number from 0 to 2"),
        (5, "4,a.jpg,1,0,-1,/x", r"line 5: found '-1', expected place"),
        (5, "4,a.jpg,one,0,0,/x", r"line 5: found 'one', expected y"),
        (5, "4,a.jpg,1", r"line 5: found .* expected 6 fields"),
        (5, "4,a.jpg,1,0,0,/x,7", r"line 5: found .* expected 6 fields"),
        (5, "4,001.Land_bird/none.jpg,0,0,0,/x", r"1 of 70 images .* 001\.Land_bird/none\.jpg"),
        (5, "4,../../metadata.csv,0,0,0,/x", r"1 of 70 images .* \.\./\.\./metadata\.csv"),
    ],
)
def test_a_damaged_line_is_named_with_its_file(root, line, text, words):
    edit(root, line, text)
    with pytest.raises(ValueError, match=words):
        waterbirds.find(root, "real")


def test_a_name_that_comes_twice_and_an_empty_list(root):
    path = folder(root) / "metadata.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[3]]) + "\n")
    with pytest.raises(ValueError, match=r"metadata\.csv lists 001.* more than once"):
        waterbirds.find(root, "real")
    path.write_text(lines[0] + "\n")
    with pytest.raises(ValueError, match=r"line 2: found 'the end', expected images"):
        waterbirds.find(root, "real")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"metadata\.csv is damaged"):
        waterbirds.find(root, "real")


def test_absent_files_are_named(root, tmp_path):
    with pytest.raises(DataMissing, match=r"waterbird_complete95.*metadata\.csv not found"):
        waterbirds.find(tmp_path / "elsewhere", "real")
    path = next((folder(root) / "002.Water_bird").iterdir())
    path.unlink()
    with pytest.raises(DataMissing, match=rf"1 of 70 images .*002\.Water_bird/{path.name}"):
        waterbirds.find(root, "auto")


def test_an_empty_class_is_named(root):
    path = folder(root) / "metadata.csv"
    head, *lines = path.read_text().splitlines()
    kept = [line for line in lines if line.split(",")[2:4] != ["1", "2"]]
    path.write_text("\n".join([head, *kept]) + "\n")
    with pytest.raises(ValueError, match=r"class 1 \(waterbird\) of waterbirds .* test split"):
        load(root)


def test_a_truncated_image_is_named_when_it_is_read(root):
    path = sorted((folder(root) / "001.Land_bird").iterdir())[0]
    path.write_bytes(path.read_bytes()[:-100])
    ds = load(root)
    with pytest.raises(ValueError, match=rf"{path.name} cannot be read as an image: .*truncated"):
        for split in (ds.train, ds.val, ds.test):
            split.x[:]
