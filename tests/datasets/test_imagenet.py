"""ImageNet's layouts: class folders, the flat validation folder with its labels, faults."""

import shutil

import numpy as np
import pytest
import torch

from lrsc.datasets import imagenet
from lrsc.datasets.images import decode
from lrsc.datasets.standins import miniatures
from lrsc.errors import DataMissing

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
DEVKIT = "ILSVRC2012_devkit_t12/data"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """40 training and 20 validation images of ten classes, without the mark of a miniature."""
    root = tmp_path_factory.mktemp("imagenet")
    (miniatures.make("imagenet", root, n=40) / miniatures.MARK).unlink()
    return root


@pytest.fixture
def root(drawn, tmp_path, monkeypatch):
    monkeypatch.setenv("LRSC_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(drawn, tmp_path / "root")


def load(root, size=16, **options):
    return imagenet.build(imagenet.find(root, "real"), size=size, **options)


def flatten(root):
    val = root / "imagenet" / "val"
    for path in list(val.glob("*/*.JPEG")):
        path.rename(val / path.name)
    for path in list(val.iterdir()):
        if path.is_dir():
            path.rmdir()


def test_classes_are_folders_in_the_order_of_their_wnids(root):
    ds = load(root)
    wnids = sorted(path.name for path in (root / "imagenet" / "train").iterdir())
    for split, name in ((ds.train, "train"), (ds.test, "val")):
        paths = sorted((root / "imagenet" / name).glob("*/*.JPEG"))
        assert split.y.tolist() == [wnids.index(path.parent.name) for path in paths]
        images = [torch.from_numpy(decode(path, 16, 18)) for path in paths]
        assert torch.equal(split.x[:], torch.stack(images))
        assert split.bias is None
    assert ds.val is None and ds.n_classes == 10 and ds.source_id == "imagenet"
    assert ds.class_names[0] == "disc"  # from the development kit
    shutil.rmtree(root / "imagenet" / "ILSVRC2012_devkit_t12")
    assert load(root).class_names == tuple(wnids)


def test_the_flat_validation_folder_equals_the_class_folders(root):
    before = load(root).test
    by_name = {
        path.name: label for path, label in zip(
            sorted((root / "imagenet" / "val").glob("*/*.JPEG")), before.y.tolist(), strict=True)
    }  # fmt: skip
    flatten(root)
    test = load(root).test
    names = sorted(by_name)
    assert test.y.tolist() == [by_name[name] for name in names]
    assert torch.equal(
        test.x[3], torch.from_numpy(decode(root / "imagenet" / "val" / names[3], 16, 18))
    )
    # the kit's numbers are not in the order of the wnids, or this would show nothing
    numbers = [int(s) for s in (root / "imagenet" / DEVKIT / TRUTH).read_text().split()]
    assert (np.array(numbers) - 1 != test.y.numpy()).any()


@pytest.mark.parametrize("where", ["", "val"])
def test_the_kit_may_lie_beside_the_images(root, where):
    flatten(root)
    expected = load(root).test.y
    for path in list((root / "imagenet" / DEVKIT).iterdir()):
        path.rename(root / "imagenet" / where / path.name)
    assert torch.equal(load(root).test.y, expected)


@pytest.mark.parametrize("name", [TRUTH, "meta.mat"])
def test_the_flat_form_needs_both_files_of_the_kit(root, name):
    flatten(root)
    (root / "imagenet" / DEVKIT / name).unlink()
    with pytest.raises(DataMissing, match=rf"{name} was not found: .*ILSVRC2012_devkit_t12\.tar"):
        imagenet.find(root, "real")


def test_the_kits_table_gives_leaves_only(root):
    found = imagenet.synsets(root / "imagenet" / DEVKIT / "meta.mat")
    assert sorted(found) == list(range(1, 11))  # the eleventh is a group of classes
    assert sorted(w for w, _ in found.values()) == [f"n{90_000_000 + k}" for k in range(10)]


@pytest.mark.parametrize("fault", ["truncated", "text", "numbers"])
def test_a_damaged_table_is_named(root, fault):
    flatten(root)
    path = root / "imagenet" / DEVKIT / "meta.mat"
    if fault == "numbers":
        path.write_bytes(miniatures.meta_mat(["n1", "n2"], [1, 3], ["a", "b"]))
    else:
        path.write_bytes(path.read_bytes()[:300] if fault == "truncated" else b"no table" * 40)
    with pytest.raises(ValueError, match=r"meta\.mat cannot be read as the development kit's"):
        imagenet.find(root, "real")


@pytest.mark.parametrize(
    ("line", "text", "words"),
    [
        (4, "11", rf"{TRUTH}, line 4: found '11', expected the label, a number from 1 to 10"),
        (4, "0", r"line 4: found '0'"),
        (4, "x", r"line 4: found 'x'"),
        (20, None, r"has 19 labels for the 20 images"),
        (20, "3\n3", r"1 of 21 images .* ILSVRC2012_val_00000021\.JPEG"),
    ],
)
def test_a_damaged_label_is_named(root, line, text, words):
    flatten(root)
    path = root / "imagenet" / DEVKIT / TRUTH
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=words):
        imagenet.find(root, "real")


def test_a_flat_image_that_is_absent_is_named(root):
    flatten(root)
    (root / "imagenet" / "val" / "ILSVRC2012_val_00000007.JPEG").unlink()
    with pytest.raises(DataMissing, match=r"1 of 20 images .*ILSVRC2012_val_00000007\.JPEG"):
        imagenet.find(root, "real")


def test_a_label_of_a_class_that_train_lacks_is_named(root):
    flatten(root)
    wnid = sorted(p.name for p in (root / "imagenet" / "train").iterdir())[4]
    shutil.rmtree(root / "imagenet" / "train" / wnid)
    with pytest.raises(ValueError, match=rf"{TRUTH}, line \d+: .*{wnid}.* a class in train"):
        imagenet.find(root, "real")


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_class_is_named(root, split):
    folder = sorted((root / "imagenet" / split).iterdir())[2]
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=rf"{split}/{folder.name} holds no image"):
        imagenet.find(root, "real")
    folder.rmdir()
    words = r"class that train does not have" if split == "train" else r"holds no image"
    with pytest.raises(ValueError, match=rf"{folder.name} .*{words}"):
        imagenet.find(root, "real")


def test_absent_folders_are_named(root, tmp_path):
    with pytest.raises(DataMissing, match="train, val not found in"):
        imagenet.find(tmp_path / "elsewhere", "real")
    shutil.rmtree(root / "imagenet" / "val")
    with pytest.raises(DataMissing, match="imagenet is not complete: val not found"):
        imagenet.find(root, "auto")


def test_the_checksum_depends_on_content_not_on_place(root, tmp_path):
    first = imagenet.find(root, "real").checksum
    moved = shutil.copytree(root, tmp_path / "moved")
    assert imagenet.find(moved, "real").checksum == first
    next((moved / "imagenet" / "val").glob("*/*.JPEG")).write_bytes(b"x")
    assert imagenet.find(moved, "real").checksum != first


def test_n_train_keeps_the_classes_in_proportion(root):
    train = load(root, n_train=20).train
    assert torch.bincount(train.y).tolist() == [2] * 10
    whole = load(root, n_train=40).train
    assert torch.equal(whole.y, load(root).train.y)


def test_an_unreadable_image_is_named_when_it_is_read(root):
    path = sorted((root / "imagenet" / "train").glob("*/*.JPEG"))[6]
    path.write_bytes(b"")
    train = load(root).train
    with pytest.raises(ValueError, match=rf"{path.parent.name}/{path.name} cannot be read"):
        list(train.x.batches(torch.arange(40).split(10), workers=1))
