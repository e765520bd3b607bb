"""The same samples and checksum whatever form lists and folders have."""

import shutil

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import published_form

from lrsc.datasets import celeba, load, waterbirds
from lrsc.datasets.raw import on_disk


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return {name: published_form(name, folder / name) for name in ("celeba", "waterbirds")}


@pytest.fixture
def root(drawn, tmp_path):
    def copied(name):
        return shutil.copytree(drawn[name], tmp_path / name)

    return copied


FORMS = st.fixed_dictionaries(
    {
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
        "sep": st.sampled_from([",", ";", " ", "\t"]),
        "lineterminator": st.sampled_from(["\n", "\r\n"]),
        "index": st.booleans(),
    }
).filter(lambda form: form["sep"] != " " or not form["index"])  # its column has no name


def write(table, path, form, whole, seed):
    """A table as pandas writes it: lines in another order, whole numbers as 1.0 perhaps."""
    table = table.sample(frac=1, random_state=seed)
    numbers = table.select_dtypes("number").columns
    table = table if whole else table.astype(dict.fromkeys(numbers, float))
    table.to_csv(path, **form)


def same(found, expected):
    assert found.checksum == expected.checksum and found.source_id == expected.source_id
    for split in ("train", "val", "test"):
        one, other = getattr(found, split), getattr(expected, split)
        assert torch.equal(one.y, other.y) and torch.equal(one.bias, other.bias)
        assert torch.equal(one.x[:], other.x[:])


@settings(max_examples=30, deadline=None)
@given(form=FORMS, whole=st.booleans(), seed=st.integers(0, 9), less=st.booleans(),
       place=st.sampled_from(waterbirds.PLACES))  # fmt: skip
def test_waterbirds(drawn, tmp_path_factory, form, whole, seed, less, place):
    top = tmp_path_factory.mktemp("waterbirds")
    shutil.copytree(drawn["waterbirds"] / waterbirds.PLACES[0], top / place)
    path = top / place / waterbirds.LIST
    table = pd.read_csv(path)
    table = table.drop(columns=["img_id", "place_filename"]) if less else table
    write(table, path, form, whole, seed)
    expected = load("waterbirds", root=drawn["waterbirds"], source="real", size=8)
    same(load("waterbirds", root=top, source="auto", size=8), expected)
    listed = next(f for f in on_disk.check("waterbirds", top) if f.path.endswith(".csv"))
    assert listed.state == "verified" and on_disk.present("waterbirds", top) == "yes"


def celeba_lists(folder):
    """The two published lists as tables, with the columns that Kaggle has."""
    lines = (folder / celeba.ATTRIBUTES[0]).read_text().splitlines()
    columns = ["image_id", *lines[1].split()]
    attributes = pd.DataFrame([line.split() for line in lines[2:]], columns=columns)
    attributes = attributes.astype(dict.fromkeys(columns[1:], int))
    lines = (folder / celeba.PARTITION[0]).read_text().splitlines()
    partition = pd.DataFrame([line.split() for line in lines], columns=["image_id", "partition"])
    return attributes, partition.astype({"partition": int})


@settings(max_examples=30, deadline=None)
@given(form=FORMS, whole=st.booleans(), seed=st.integers(0, 9), nested=st.booleans(),
       suffix=st.sampled_from(["csv", "txt"]))  # fmt: skip
def test_celeba(drawn, tmp_path_factory, form, whole, seed, nested, suffix):
    top, published = tmp_path_factory.mktemp("celeba"), drawn["celeba"] / "celeba"
    images = "img_align_celeba/img_align_celeba" if nested else "img_align_celeba"
    shutil.copytree(published / "img_align_celeba", top / "celeba" / images)
    tables = celeba_lists(published)
    for table, names in zip(tables, (celeba.ATTRIBUTES, celeba.PARTITION), strict=True):
        name = next(name for name in names if name.endswith(suffix))
        write(table, top / "celeba" / name, form, whole, seed)
    expected = load("celeba", root=drawn["celeba"], source="real", size=8)
    same(load("celeba", root=top, source="auto", size=8), expected)
    if suffix == "csv":
        assert {f.state for f in on_disk.check("celeba", top) if f.path.endswith("csv")} == {
            "verified"
        }


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_published_lists_with_a_mark(root, drawn, mark, end):
    top = root("celeba")
    for name in (celeba.ATTRIBUTES[0], celeba.PARTITION[0]):
        path = top / "celeba" / name
        path.write_bytes(mark + path.read_bytes().replace(b"\n", end))
    same(
        load("celeba", root=top, source="real", size=8),
        load("celeba", root=drawn["celeba"], source="real", size=8),
    )


def test_an_image_that_a_csv_list_lacks_is_told(root):
    top = root("celeba")
    attributes, partition = celeba_lists(top / "celeba")
    for name in (celeba.ATTRIBUTES[0], celeba.PARTITION[0]):
        (top / "celeba" / name).unlink()
    attributes.to_csv(top / "celeba" / celeba.ATTRIBUTES[1], index=False)
    partition.to_csv(top / "celeba" / celeba.PARTITION[1], index=False)
    (top / "celeba" / "img_align_celeba" / "000007.jpg").unlink()
    wrong = [f for f in on_disk.check("celeba", top) if f.path.endswith("csv")]
    assert {f.state for f in wrong} == {"wrong"}
    assert all(f.detail == "1 of 70 images that it lists are missing: ['000007.jpg']"
               for f in wrong)  # fmt: skip
