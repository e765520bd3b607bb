"""CelebA in its published layout: labels, bias coding, splits, faults, streaming, cache."""

import shutil
import zipfile

import numpy as np
import pytest
import torch
from packing import published_form

from lrsc.datasets import celeba
from lrsc.datasets.biased import stratified
from lrsc.datasets.images import Images, decode
from lrsc.datasets.standins import miniatures
from lrsc.errors import DataMissing

ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return published_form("celeba", tmp_path_factory.mktemp("celeba"))


@pytest.fixture
def root(drawn, tmp_path, monkeypatch):
    monkeypatch.setenv("LRSC_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(drawn, tmp_path / "root")


def load(root, source="real", size=16, **options):
    return celeba.build(celeba.find(root, source), size=size, **options)


def table(root):
    """name -> (attribute -> -1 or 1, split), read in the plainest way."""
    lines = (root / "celeba" / ATTRIBUTES).read_text().splitlines()
    names = lines[1].split()
    rows = {line.split()[0]: dict(zip(names, map(int, line.split()[1:]), strict=True))
            for line in lines[2:]}  # fmt: skip
    splits = dict(line.split() for line in (root / "celeba" / PARTITION).read_text().splitlines())
    return {name: (row, int(splits[name])) for name, row in rows.items()}


def edit(root, name, line, text):
    """Replace line (from 1) of a list; None deletes it."""
    path = root / "celeba" / name
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_text("\n".join(lines) + "\n")


def test_labels_bias_and_splits_are_those_of_the_lists(root):
    ds = load(root)
    assert ds.source_id == "celeba" and ds.n_classes == 2 and len(ds.checksum) == 64
    assert ds.class_names == ("not blond hair", "blond hair")
    for k, split in enumerate((ds.train, ds.val, ds.test)):
        rows = [(name, row) for name, (row, s) in sorted(table(root).items()) if s == k]
        assert split.y.tolist() == [int(row["Blond_Hair"] == 1) for _, row in rows]
        assert split.bias.tolist() == [int(row["Male"] == -1) for _, row in rows]  # b = not male
        folder = root / "celeba" / "img_align_celeba"
        expected = [torch.from_numpy(decode(folder / name, 16, 16)) for name, _ in rows]
        assert torch.equal(split.x[:], torch.stack(expected))
    assert [len(s) for s in (ds.train, ds.val, ds.test)] == [40, 10, 20]
    assert int(ds.train.conflicting.sum()) == 4 and ds.rho == 0.1
    assert ds.train.core_mask is None


def test_images_stream_and_are_standardised_with_imagenets_constants(root):
    train = load(root).train
    assert isinstance(train.x, Images) and train.x.shape == (40, 3, 16, 16)
    x = train.inputs(train.x[torch.tensor([7, 2])])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
    assert torch.allclose(x[1] * std + mean, train.x[2] / 255, atol=1e-5)


def test_the_zip_equals_the_folder(root):
    plain = celeba.find(root, "real")
    folder = root / "celeba" / "img_align_celeba"
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir(), reverse=True):
            archive.write(path, f"img_align_celeba/{path.name}")
    expected = celeba.build(plain, size=16).train.x[:]
    shutil.rmtree(folder)
    source = celeba.find(root, "auto")
    assert source.key == plain.key
    x = celeba.build(source, size=16).train.x
    assert torch.equal(torch.cat(list(x.batches(torch.arange(40).split(16), workers=1))), expected)


def test_the_order_of_the_lists_does_not_matter(root):
    before = load(root)
    for name, head in ((ATTRIBUTES, 2), (PARTITION, 0)):
        path = root / "celeba" / name
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:head], *reversed(lines[head:])]) + "\n")
    after = load(root)
    assert torch.equal(after.train.y, before.train.y) and torch.equal(
        after.test.bias, before.test.bias
    )
    assert torch.equal(after.train.x[:], before.train.x[:])
    assert after.checksum == before.checksum  # the same samples


def test_the_checksum_is_over_lists_names_and_sizes(root):
    first = celeba.find(root, "real").checksum
    (root / "celeba" / "img_align_celeba" / "more.jpg").write_bytes(b"not in the list")
    assert celeba.find(root, "real").checksum == first
    with (root / "celeba" / "img_align_celeba" / "000003.jpg").open("ab") as file:
        file.write(b"\0")
    assert celeba.find(root, "real").checksum != first


def test_for_other_attributes_the_majority_pairing_is_coded_as_equal(root):
    lines = (root / "celeba" / ATTRIBUTES).read_text().splitlines()
    young = lines[1].split().index("Young") + 1
    rows = [line.split() for line in lines[2:]]
    male = lines[1].split().index("Male") + 1
    for flip in (1, -1):  # men are young, or women are; all but one
        for i, row in enumerate(rows):
            row[young] = str(flip * int(row[male]) * (1 if i else -1))
        text = [lines[0], lines[1], *(" ".join(row) for row in rows)]
        (root / "celeba" / ATTRIBUTES).write_text("\n".join(text) + "\n")
        train = load(root, target="Male", spurious="Young").train
        assert int(train.conflicting.sum()) == 1 and bool(train.conflicting[0])
        assert train.y.tolist() == [int(row[male] == "1") for row in rows[:40]]
    assert load(root, target="Male", spurious="Young").class_names == ("not male", "male")


def test_attributes_are_checked_by_name(root):
    with pytest.raises(ValueError, match=r"'Blonde_hair'.*Did you mean 'Blond_Hair'"):
        load(root, target="Blonde_hair")
    with pytest.raises(ValueError, match=r"attribute for spurious 'Mal'.*Did you mean 'Male'"):
        load(root, spurious="Mal")
    with pytest.raises(ValueError, match=r"two attributes, found 'Male' twice"):
        load(root, target="Male")


def test_n_train_keeps_the_groups_in_proportion(root):
    whole, part, other = (load(root, **o).train for o in (
        {}, {"n_train": 20}, {"n_train": 20, "seed": 1}))  # fmt: skip
    assert torch.bincount(part.y * 2 + part.bias).tolist() == [9, 1, 1, 9]
    groups = (whole.y * 2 + whole.bias).numpy()
    chosen = stratified(groups, 20, np.random.default_rng([celeba.VERSION, 0]))
    assert torch.equal(part.x[:], whole.x[:][chosen])
    assert not torch.equal(part.x[:], other.x[:])
    with pytest.raises(ValueError, match="n_train must be at most 40"):
        load(root, n_train=41)


def test_the_cache_gives_the_same_images_for_the_set_and_for_a_subset(root, tmp_path):
    plain, part = load(root), load(root, n_train=20)
    for _ in range(2):
        cached, cached_part = load(root, cache=True), load(root, n_train=20, cache=True)
        assert torch.equal(cached.train.x[:], plain.train.x[:])
        assert torch.equal(cached.test.x[:], plain.test.x[:])
        assert torch.equal(cached_part.train.x[:], part.train.x[:])
    assert isinstance(cached.train.x.source, torch.Tensor)
    entries = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len(entries) == 4  # train, val, test; train's subset
    small = load(root, cache=True, size=8).train.x  # another entry
    assert torch.equal(small[:], load(root, size=8).train.x[:])


def test_a_damaged_image_is_named_when_it_is_read_and_leaves_no_cache(root, tmp_path):
    (root / "celeba" / "img_align_celeba" / "000005.jpg").write_bytes(b"broken")
    ds = load(root)
    with pytest.raises(
        ValueError, match=r"img_align_celeba/000005\.jpg cannot be read as an image"
    ):
        ds.train.x[:8]
    with pytest.raises(ValueError, match=r"000005\.jpg"):
        load(root, cache=True)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


@pytest.mark.parametrize("name", [ATTRIBUTES, PARTITION, "img_align_celeba"])
def test_a_part_that_is_missing_is_named(root, name):
    path = root / "celeba" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for source in ("real", "auto"):  # some of it is there: that is no absence
        with pytest.raises(DataMissing, match=rf"{name}.* not found in .*celeba.*lrsc data get"):
            celeba.find(root, source)


def test_nothing_there(tmp_path, monkeypatch):
    monkeypatch.setattr(miniatures, "folder", lambda name: tmp_path / "stand-in")
    with pytest.raises(DataMissing, match="list_attr_celeba.txt.*not found"):
        celeba.find(tmp_path, "real")
    with pytest.raises(DataMissing, match="stand-in"):  # the miniature is what is looked for
        celeba.find(tmp_path, "auto")


@pytest.mark.parametrize(
    ("name", "line", "text", "words"),
    [
        (ATTRIBUTES, 1, "71", r"txt, line 1: found 71, expected 70, the images that are listed"),
        (ATTRIBUTES, 1, "many", r"line 1: found 'many', expected the number of images"),
        (ATTRIBUTES, 40, None, r"line 1: found 70, expected 69"),
        (ATTRIBUTES, 7, "000005.jpg 1 1", r"line 7: found '000005.jpg 1 1', expected .* 40 values"),
        (ATTRIBUTES, 7, "000005.jpg" + " 0" * 40, r"line 7: found '000005.jpg 0 0.*-1 or 1"),
        (ATTRIBUTES, 7, "", r"line 7: found '', expected a file name"),
        (ATTRIBUTES, 7, "000004.jpg" + " 1" * 40, r"lists 000004\.jpg more than once"),
        (ATTRIBUTES, 2, "Blond_Hair Male", r"line 3: found .* 2 values"),
        (PARTITION, 9, "000009.jpg 3", r"partition\.txt, line 9: found '3', expected the split.*2"),
        (PARTITION, 9, "000009.jpg", r"line 9: found '000009.jpg', expected a file name and its"),
        (
            PARTITION,
            9,
            "000099.jpg 0",
            r"line 9: found '000099.jpg', expected an image that list_a",
        ),
        (PARTITION, 9, None, r"has no split for 000009\.jpg"),
    ],
)
def test_a_damaged_line_is_named_with_its_file(root, name, line, text, words):
    edit(root, name, line, text)
    with pytest.raises(ValueError, match=words):
        celeba.find(root, "real")


def test_a_list_cut_short_and_an_empty_one(root):
    path = root / "celeba" / ATTRIBUTES
    path.write_bytes(path.read_bytes()[:-150])
    with pytest.raises(ValueError, match=r"line 71: found"):
        celeba.find(root, "real")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"line 1: found 'the end'"):
        celeba.find(root, "real")


def test_a_listed_image_that_is_absent_is_named_before_any_work(root):
    (root / "celeba" / "img_align_celeba" / "000031.jpg").unlink()
    with pytest.raises(DataMissing, match=r"1 of 70 images that .*list_attr.* 000031\.jpg"):
        celeba.find(root, "real")


def test_an_empty_class_is_named(root):
    path = root / "celeba" / PARTITION
    blond = {name for name, (row, _) in table(root).items() if row["Blond_Hair"] == 1}
    lines = path.read_text().splitlines()
    path.write_text("\n".join(s[:-1] + "1" if s.split()[0] in blond else s for s in lines) + "\n")
    with pytest.raises(ValueError, match=r"class 1 \(blond hair\) of celeba has no .* train split"):
        load(root)


def test_sizes_are_checked(root):
    with pytest.raises(ValueError, match="size must be a whole number of pixels >= 1, found 0"):
        load(root, size=0)
