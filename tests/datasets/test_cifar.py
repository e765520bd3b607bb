"""CIFAR's formats: python batches and image files, whole and damaged; the plain data sets."""

import hashlib
import io
import pickle
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from lrsc.datasets import cifar, load, resolve
from lrsc.errors import DataMissing

NAMES = cifar.CIFAR10_NAMES


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LRSC_CACHE", str(tmp_path / "cache"))


def pictures(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 32, 32), np.uint8)


def write_batches(root, monkeypatch, name="cifar10", per_file=20):
    """Batches as published, pickled with protocol 2; their digests become the expected ones."""
    folder, files = cifar.BATCHES[name]
    (root / folder).mkdir(parents=True)
    written, digests = {}, {}
    for i, file in enumerate(files):
        x, y = pictures(per_file, i), (np.arange(per_file) * 7) % cifar.CLASSES[name]
        labels = "labels" if name == "cifar10" else "fine_labels"
        batch = {"data": x.reshape(per_file, -1), labels: y.tolist(), "filenames": ["a"] * per_file}
        data = pickle.dumps(batch, protocol=2)
        (root / folder / file).write_bytes(data)
        written[file], digests[file] = (x, y), hashlib.md5(data).hexdigest()
    monkeypatch.setitem(cifar.BATCHES, name, (folder, digests))
    return written


def write_images(folder, per_class=(3, 2), suffix=".png"):
    """Image files in class folders, created in an order that is not the alphabet's."""
    written = {}
    for split, n in zip(("train", "test"), per_class, strict=True):
        for c in reversed(range(10)):
            (folder / split / NAMES[c]).mkdir(parents=True)
            for i in reversed(range(n)):
                x = pictures(1, 100 * c + 10 * i + (split == "test"))[0]
                path = folder / split / NAMES[c] / f"{i:04d}{suffix}"
                Image.fromarray(x.transpose(1, 2, 0)).save(path)
                written[split, c, i] = x
    return written


# -- python batches ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_batches_are_read_in_their_order(name, tmp_path, monkeypatch):
    written = write_batches(tmp_path, monkeypatch, name)
    found = load(name, root=tmp_path)
    train = [v for k, v in written.items() if not k.startswith("test")]
    assert np.array_equal(found.train.x, np.concatenate([x for x, _ in train]))
    assert np.array_equal(found.train.y, np.concatenate([y for _, y in train]))
    test = next(v for k, v in written.items() if k.startswith("test"))
    assert np.array_equal(found.test.x, test[0]) and np.array_equal(found.test.y, test[1])
    assert found.source_id == name and found.train.bias is None and np.isnan(found.rho)
    assert found.n_classes == cifar.CLASSES[name] == len(found.class_names)


def test_inputs_have_the_fixed_constants(tmp_path, monkeypatch):
    write_batches(tmp_path, monkeypatch)
    split = load("cifar10", root=tmp_path).train
    x = split.x[:3].numpy() / 255
    mean, std = np.array([0.491, 0.482, 0.447]), np.array([0.247, 0.243, 0.262])
    expected = (x - mean[:, None, None]) / std[:, None, None]
    assert np.allclose(split.inputs(split.x[:3]), expected, atol=1e-5)


def test_an_altered_batch_is_refused_before_it_is_unpickled(tmp_path, monkeypatch):
    write_batches(tmp_path, monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    expected = cifar.BATCHES["cifar10"][1]["data_batch_3"]

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=rf"data_batch_3 is wrong .*MD5 found .*{expected}"):
        load("cifar10", root=tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_batches_of_ones_own_are_read_under_a_name_of_their_own(
    name, tmp_path, monkeypatch, caplog
):
    with monkeypatch.context() as patch:
        written = write_batches(tmp_path, patch, name)
    found = load(name, root=tmp_path, source="real")  # no file has its published digest
    assert found.source_id == f"own-{name}" and "no batch in" in caplog.text
    train = [x for file, (x, _) in written.items() if not file.startswith("test")]
    assert np.array_equal(found.train.x, np.concatenate(train))


def test_only_arrays_are_unpickled(tmp_path, monkeypatch):
    write_batches(tmp_path, monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"

    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit",))

    path.write_bytes(pickle.dumps({"data": Trap()}))
    monkeypatch.setitem(
        cifar.BATCHES["cifar10"][1], "test_batch", hashlib.md5(path.read_bytes()).hexdigest()
    )
    with pytest.raises(ValueError, match="test_batch is not a batch.*exec is not admitted"):
        load("cifar10", root=tmp_path)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, "label out of range.*0 to 10"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "2 images and 1 labels"),
        ({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]}, "not a batch"),
        ({"labels": [0]}, "not a batch of CIFAR images: 'data'"),
    ],
)
def test_a_batch_with_wrong_content_is_an_error(batch, words, tmp_path, monkeypatch):
    write_batches(tmp_path, monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps(batch, protocol=2))
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(cifar.BATCHES["cifar10"][1], "test_batch", digest)
    with pytest.raises(ValueError, match=words):
        load("cifar10", root=tmp_path)


def test_a_missing_batch_is_named(tmp_path, monkeypatch):
    write_batches(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").unlink()
    with pytest.raises(DataMissing, match="not complete: data_batch_2 not found in"):
        load("cifar10", root=tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist_cifar", "corrupted_cifar10"])
def test_real_data_that_is_absent_say_how_to_get_them(name, tmp_path):
    with pytest.raises(DataMissing, match=f"{tmp_path}.*(lrsc data get|data_scripts)"):
        load(name, root=tmp_path, source="real")


# -- image files ------------------------------------------------------------------------------


def pack(folder, form):
    """Put the folder's content into an archive beside it, shuffled; the folder goes."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    order = np.random.default_rng(0).permutation(len(files))
    if form == "zip":
        with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
            for i in order:
                archive.write(files[i], files[i].relative_to(folder))
    elif form != "folder":
        with tarfile.open(f"{folder}.{form}", f"w:{form.split('.')[1]}") as archive:
            for i in order:
                archive.add(files[i], f"./{files[i].relative_to(folder)}")
    if form != "folder":
        shutil.rmtree(folder)


@pytest.mark.parametrize("form", ["folder", "zip", "tar.gz", "tar.xz"])
def test_image_files_are_read_in_sorted_order_whatever_holds_them(form, tmp_path):
    root = tmp_path / "root"
    written = write_images(root / "cifar10-jpeg")
    pack(root / "cifar10-jpeg", form)
    before = sorted(p.name for p in root.rglob("*"))
    found = load("cifar10", root=root)
    assert found.source_id == "cifar10-jpeg"
    assert found.train.y.tolist() == sorted(list(range(10)) * 3)
    for split, name in ((found.train, "train"), (found.test, "test")):
        expected = [x for (s, _, _), x in sorted(written.items()) if s == name]
        assert np.array_equal(split.x, expected)
    assert sorted(p.name for p in root.rglob("*")) == before  # the data root is only read


def test_images_of_other_suffixes_are_read_and_others_counted(tmp_path, caplog):
    written = write_images(tmp_path / "cifar10-jpeg", suffix=".bmp")
    (tmp_path / "cifar10-jpeg" / "train" / "cat" / "notes.txt").write_bytes(b"1")
    found = load("cifar10", root=tmp_path)
    expected = [x for (s, _, _), x in sorted(written.items()) if s == "train"]
    assert np.array_equal(found.train.x, expected)
    assert "1 files in the class folders of" in caplog.text and "train/cat/notes.txt" in caplog.text


def test_image_files_are_decoded_once(tmp_path, monkeypatch):
    write_images(tmp_path / "cifar10-jpeg")
    first = cifar.find("cifar10", tmp_path, "auto")
    monkeypatch.setattr(cifar, "_decode", lambda *_: pytest.fail("decoded again"))
    again = cifar.find("cifar10", tmp_path, "auto")
    assert again.checksum == first.checksum
    assert all(np.array_equal(a, b) for a, b in zip(first.content, again.content, strict=True))


def test_an_unpacked_miniature_is_read_as_one(tmp_path):
    from lrsc.datasets.standins import miniatures

    miniatures.make("cifar10", tmp_path, n=20)
    found = cifar.find("cifar10", tmp_path, "real")
    assert found.source_id == "miniature-cifar10" and len(found.content[0]) == 20


def test_published_batches_go_before_image_files(tmp_path, monkeypatch):
    write_images(tmp_path / "cifar10-jpeg")
    write_batches(tmp_path, monkeypatch)
    assert cifar.find("cifar10", tmp_path, "auto").source_id == "cifar10"


def cache_is_empty():
    from lrsc.datasets.raw import cache

    return not any(p for p in cache.folder().glob("*") if not p.name.startswith("."))


def test_a_truncated_image_names_the_file_and_leaves_no_cache(tmp_path):
    write_images(tmp_path / "cifar10-jpeg", suffix=".jpg")
    path = tmp_path / "cifar10-jpeg" / "train" / "cat" / "0001.jpg"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"train/cat/0001\.jpg cannot be read as an image"):
        load("cifar10", root=tmp_path)
    assert cache_is_empty()


def test_an_image_of_another_size_is_named(tmp_path):
    write_images(tmp_path / "cifar10-jpeg")
    Image.new("RGB", (32, 31)).save(tmp_path / "cifar10-jpeg" / "test" / "dog" / "0000.png")
    with pytest.raises(ValueError, match=r"test/dog/0000\.png has \(32, 31\) pixels"):
        load("cifar10", root=tmp_path)


def test_grey_and_palette_images_are_read_as_rgb(tmp_path):
    write_images(tmp_path / "cifar10-jpeg")
    folder = tmp_path / "cifar10-jpeg" / "train" / "airplane"
    Image.new("L", (32, 32), 77).save(folder / "0000.png")
    Image.new("P", (32, 32), 3).save(folder / "0001.png")
    x = load("cifar10", root=tmp_path).train.x
    assert x[0].unique().tolist() == [77] and x[1].shape == (3, 32, 32)


@pytest.mark.parametrize("gone", ["train/frog", "test/frog"])
def test_a_class_without_images_is_named(gone, tmp_path):
    write_images(tmp_path / "cifar10-jpeg")
    shutil.rmtree(tmp_path / "cifar10-jpeg" / gone)
    with pytest.raises(ValueError, match=f"{gone} holds no image"):
        load("cifar10", root=tmp_path)


def test_other_classes_are_an_error(tmp_path):
    write_images(tmp_path / "cifar10-jpeg")
    for split in ("train", "test"):
        folder = tmp_path / "cifar10-jpeg" / split
        (folder / "frog").rename(folder / "toad")
    with pytest.raises(ValueError, match=r"classes are .*'toad'.*expected folders .*'frog'"):
        load("cifar10", root=tmp_path)


@pytest.mark.parametrize("form", ["zip", "tar.gz", "tar.xz"])
def test_a_truncated_archive_is_an_error(form, tmp_path):
    write_images(tmp_path / "cifar10-jpeg")
    pack(tmp_path / "cifar10-jpeg", form)
    path = tmp_path / f"cifar10-jpeg.{form}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"{path.name} cannot be read to its end"):
        load("cifar10", root=tmp_path)
    assert cache_is_empty()


@pytest.mark.parametrize("name", ["../train/cat/0.png", "/train/cat/0.png", "train/../../x/0.png"])
def test_an_archive_with_a_path_outside_its_folder_is_refused(name, tmp_path):
    data = io.BytesIO()
    Image.new("RGB", (32, 32)).save(data, "png")
    with tarfile.open(tmp_path / "cifar10-jpeg.tar", "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data.getvalue())
        archive.addfile(member, io.BytesIO(data.getvalue()))
    with pytest.raises(ValueError, match=r"lies outside the archive's folder"):
        load("cifar10", root=tmp_path)


def test_an_archive_with_a_link_is_refused(tmp_path):
    with tarfile.open(tmp_path / "cifar10-jpeg.tar", "w") as archive:
        member = tarfile.TarInfo("train/cat/0.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(ValueError, match="is a link or device"):
        load("cifar10", root=tmp_path)


# -- sets made of CIFAR's images --------------------------------------------------------------


def test_subsets_are_stratified_and_seeded(tmp_path, monkeypatch):
    write_images(tmp_path / "cifar10-jpeg", per_class=(10, 1))
    one, again, other = (
        load("cifar10", root=tmp_path, n_train=50, seed=seed).train for seed in (0, 0, 1)
    )
    assert torch.bincount(one.y).tolist() == [5] * 10
    assert torch.equal(one.x, again.x) and not torch.equal(one.x, other.x)


def test_mnist_cifar_stacks_a_digit_of_the_bias_class_on_the_image(tmp_path):
    from lrsc.datasets.raw import sources

    found = load("mnist_cifar", source="embedded")
    source = resolve("mnist_cifar", source="embedded")
    assert found.source_id == "digits+miniature-cifar10"
    (grey, digit, *_), (images, y, *_) = source.content
    x = found.train.x.numpy()
    assert x.shape == (len(images), 3, 64, 32) and np.array_equal(x[:, :, 32:], images)
    assert np.array_equal(found.train.y, y)
    known = {image.tobytes(): label for image, label in zip(grey, digit, strict=True)}
    top = np.ascontiguousarray(x[:, :, 2:30, 2:30])
    for c in range(3):
        found_digits = [known[np.ascontiguousarray(image[c]).tobytes()] for image in top]
        assert found_digits == found.train.bias.tolist()
    border = np.ones((32, 32), bool)
    border[2:30, 2:30] = False
    assert not x[:, :, :32][:, :, border].any()
    lower = found.train.core_mask.expand(1, 3, 64, 32)
    assert lower[:, :, 32:].all() and not lower[:, :, :32].any()
    assert torch.equal(found.train.spurious_mask, ~found.train.core_mask)
    assert sources.is_stand_in(found.source_id)


@pytest.mark.parametrize("name", ["mnist_cifar", "corrupted_cifar10"])
@pytest.mark.parametrize("rho", [0.0, 0.1, 0.25, 1.0])
def test_conflicting_counts_are_exact_and_the_test_set_unbiased(name, rho):
    found = load(name, source="embedded", rho=rho, n_train=400)
    table = torch.bincount(found.train.y * 10 + found.train.bias, minlength=100).view(10, 10)
    for c, row in enumerate(table):
        others = torch.cat([row[:c], row[c + 1 :]])
        assert int(others.sum()) == round(rho * 40) and int(row.sum()) == 40
        assert int(others.max() - others.min()) <= 1
    table = torch.bincount(found.test.y * 10 + found.test.bias, minlength=100).view(10, 10)
    assert int((table.max(1).values - table.min(1).values).max()) <= 1


def test_corrupted_cifar10_applies_the_corruption_of_the_bias_label():
    from lrsc.datasets import corruptions

    source = resolve("corrupted_cifar10", source="embedded")
    found = load("corrupted_cifar10", source="embedded", severity=3)
    clean = torch.from_numpy(np.array(source.content[0]))
    for name in ("brightness", "contrast", "pixelate", "jpeg", "saturate"):  # draw nothing
        members = found.train.bias == corruptions.NAMES.index(name)
        expected = corruptions.corrupt(clean[members], name, 3)
        assert torch.equal(found.train.x[members], expected)
    assert not (found.train.x == clean).flatten(1).all(1).any()


def test_corrupted_cifar10_is_kept_and_the_same_in_any_case(monkeypatch):
    from lrsc.datasets import corruptions

    first = load("corrupted_cifar10", source="embedded", n_train=100)
    with monkeypatch.context() as patch:
        patch.setattr(corruptions, "corrupt", lambda *_: pytest.fail("corrupted again"))
        again = load("corrupted_cifar10", source="embedded", n_train=100)
    assert torch.equal(first.train.x, again.train.x) and torch.equal(first.test.x, again.test.x)
    for changed in ({"seed": 1}, {"severity": 5}, {"rho": 0.5}):
        other = load("corrupted_cifar10", source="embedded", n_train=100, **changed)
        assert not torch.equal(first.train.x, other.train.x)


def test_a_severity_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="severity"):
        load("corrupted_cifar10", source="embedded", n_train=10, severity=6)


def test_real_images(real_data):
    if not any(real_data.glob("cifar10-jpeg*")):
        pytest.skip(
            "real CIFAR-10 images: put cifar10-jpeg.tar.xz into the folder that LRSC_DATA names"
        )
    found = load("cifar10", root=real_data)
    assert torch.bincount(found.train.y).tolist() == [5000] * 10
    assert torch.bincount(found.test.y).tolist() == [1000] * 10
