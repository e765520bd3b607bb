"""What there is under a data root, `check` and `get`, on small sets in the published layouts."""

import dataclasses
import gzip
import hashlib
import io
import json
import shutil
import zipfile

import pytest
from packing import names, packed, read
from test_download import Server

from lrsc.datasets import cifar, imagenet
from lrsc.datasets.raw import archives, download, on_disk
from lrsc.datasets.raw.on_disk import check, get, present
from lrsc.datasets.raw.published import TABLE, Images
from lrsc.datasets.waterbirds import PLACES
from lrsc.errors import DataMissing


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        yield running


@pytest.fixture
def table(monkeypatch):
    """A copy of the table that a test may change."""
    copy = dict(TABLE)
    monkeypatch.setattr(on_disk, "TABLE", copy)
    return copy


def states(name, root):
    return [(f.path, f.state) for f in check(name, root)]


def verified(name, root):
    found = list(check(name, root))
    return bool(found) and all(f.state == "verified" for f in found)


def test_an_empty_root(tmp_path):
    expected = {"parity": "generated", "moon_star": "generated"}
    for row in on_disk.listing(tmp_path / "nowhere"):
        assert row["present"] == expected.get(row["name"], "no")
    assert {state for n in TABLE for _, state in states(n, tmp_path)} == {"missing"}
    assert names(tmp_path) == set()


def test_unknown_names_get_the_nearest_and_the_list(tmp_path):
    for use in (present, get, on_disk.raw_sets, lambda *a: list(check(*a))):
        with pytest.raises(ValueError, match="'cifar10x'. Did you mean 'cifar10'.*waterbirds"):
            use("cifar10x", tmp_path)


@pytest.fixture
def small_mnist(table, server):
    """MNIST of four small files on the server; their content by path."""
    contents, pieces = {}, []
    for i, (plain, gz) in enumerate(table["mnist"].pieces):
        contents[plain.path] = bytes([i]) * 5000
        data = gzip.compress(contents[plain.path], mtime=0)
        plain = dataclasses.replace(plain, md5=hashlib.md5(contents[plain.path]).hexdigest())
        gz = dataclasses.replace(
            gz, urls=(server.add(gz.path, data),), size=len(data),
            md5=hashlib.md5(data).hexdigest(), sha256=hashlib.sha256(data).hexdigest(),
        )  # fmt: skip
        pieces.append((plain, gz))
    table["mnist"] = dataclasses.replace(
        table["mnist"], pieces=tuple(pieces), fetched=tuple(gz for _, gz in pieces)
    )
    return contents


def test_get_fetches_unpacks_and_verifies(small_mnist, server, tmp_path):
    found = get("colored_mnist", tmp_path)
    assert [(f.path, f.state) for f in found] == [(path, "verified") for path in small_mnist]
    kept = read(tmp_path)
    records = json.loads(kept.pop("checksums.json"))
    assert kept == small_mnist  # the .gz are gone
    assert records == {p: hashlib.sha256(data).hexdigest() for p, data in small_mnist.items()}
    assert present("mnist", tmp_path) == present("double_mnist", tmp_path) == "yes"
    assert present("mnist_cifar", tmp_path) == "partly"
    requests = len(server.log)
    assert get("mnist", tmp_path) == list(check("mnist", tmp_path))
    assert len(server.log) == requests == 4  # nothing is fetched twice


def test_either_form_of_mnist_is_complete(small_mnist, tmp_path):
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for i, (path, data) in enumerate(small_mnist.items()):
        if i % 2:
            (tmp_path / path).write_bytes(data)
        else:
            (tmp_path / f"{path}.gz").write_bytes(gzip.compress(data, mtime=0))
        assert present("mnist", tmp_path) == ("yes" if i == 3 else "partly")
    assert verified("mnist", tmp_path)


def test_an_altered_file_is_wrong_and_get_mends_it(small_mnist, server, tmp_path):
    get("mnist", tmp_path)
    path = list(small_mnist)[2]
    (tmp_path / path).write_bytes(b"x" * 5000)
    assert [s for _, s in states("mnist", tmp_path)] == ["verified"] * 2 + ["wrong", "verified"]
    (wrong,) = [f for f in check("mnist", tmp_path) if f.state == "wrong"]
    assert wrong.path == path and "MD5 found" in wrong.detail and "expected" in wrong.detail
    server.log.clear()
    assert all(f.state == "verified" for f in get("mnist", tmp_path))
    assert [name for name, _ in server.log] == [f"{path}.gz"]


def test_a_recorded_sha256_refuses_what_has_the_right_md5(small_mnist, tmp_path):
    get("mnist", tmp_path)
    path = next(iter(small_mnist))
    known = download.recorded(tmp_path) | {path: "0" * 64}
    (tmp_path / "checksums.json").write_text(json.dumps(known))
    first = next(check("mnist", tmp_path))
    assert first.state == "wrong" and "as recorded at its first download" in first.detail


def test_without_a_network_get_names_every_file_that_is_missing(small_mnist, server, tmp_path):
    for path in small_mnist:
        server.files.pop(f"{path}.gz")
    with pytest.raises(DataMissing) as error:
        get("mnist", tmp_path)
    for path in small_mnist:
        assert f"{path.rpartition('/')[2]}.gz could not be fetched" in str(error.value)
        assert server.url(f"{path}.gz") in str(error.value)
    assert str(tmp_path / "MNIST" / "raw") in str(error.value)
    assert present("mnist", tmp_path) == "no"


def test_what_was_begun_is_partly_there(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz.part").write_bytes(b"1")
    assert present("cifar10", tmp_path) == "partly" and present("cifar100", tmp_path) == "no"


def small_archive(table, name, files, url=None, **facts):
    """The fetched archive of a set, replaced by a small one; its bytes."""
    data = packed(files, "tar.gz")
    (file,) = table[name].fetched
    urls = (url,) if url else ()
    facts = {"size": len(data), "md5": hashlib.md5(data).hexdigest(), "sha256": ""} | facts
    table[name] = dataclasses.replace(
        table[name], fetched=(dataclasses.replace(file, urls=urls, **facts),)
    )
    return data


@pytest.fixture
def small_cifar(table, server):
    """CIFAR-10's archive with small files, on the server; the files by name."""
    folder, known = cifar.BATCHES["cifar10"]
    files = {f"{folder}/{name}": name.encode() * 100 for name in known}
    extra = files | {f"{folder}/readme.html": b"<p>"}
    data = small_archive(table, "cifar10", extra, server.url("cifar.tar.gz"))
    server.add("cifar.tar.gz", data)
    pieces = tuple(
        (dataclasses.replace(form, md5=hashlib.md5(files[form.path]).hexdigest()),)
        for (form,) in table["cifar10"].pieces
    )
    table["cifar10"] = dataclasses.replace(table["cifar10"], pieces=pieces)
    return files


def test_an_archive_is_laid_out_and_removed(small_cifar, tmp_path):
    assert all(f.state == "verified" for f in get("corrupted_cifar10", tmp_path))
    kept = read(tmp_path)
    assert kept.pop("cifar-10-batches-py/readme.html") == b"<p>"
    assert kept.pop("checksums.json") and kept == small_cifar
    assert present("corrupted_cifar10", tmp_path) == "yes"


def test_a_damaged_folder_is_not_replaced(small_cifar, tmp_path):
    get("cifar10", tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(b"mine")
    with pytest.raises(ValueError, match="cifar-10-batches-py exists already.*move or delete"):
        get("cifar10", tmp_path)
    assert path.read_bytes() == b"mine"


def test_an_archive_that_lies_there_is_checked_and_used(small_cifar, server, tmp_path):
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"damaged")
    assert ("cifar-10-python.tar.gz", "wrong") in states("cifar10", tmp_path)
    archive.write_bytes(server.files["cifar.tar.gz"])
    assert ("cifar-10-python.tar.gz", "verified") in states("cifar10", tmp_path)
    assert all(f.state == "verified" for f in get("cifar10", tmp_path))
    assert server.log == []
    (tmp_path / "cifar-10-batches-py").rename(tmp_path / "aside")
    archive.write_bytes(b"damaged")
    get("cifar10", tmp_path)
    assert len(server.log) == 1  # what is damaged is fetched again


# Images


def picture(side=8) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (side, side)).save(out, "JPEG")
    return out.getvalue()


def image_files(n=2, classes="ab", splits=("train", "test")) -> dict[str, bytes]:
    return {f"{s}/{c}/{i}.jpg": picture() for s in splits for c in classes for i in range(n)}


def put(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


@pytest.fixture
def small_jpeg(table):
    ((form,),) = table["cifar10-jpeg"].pieces
    form = dataclasses.replace(form, splits=(("train", 4, 2), ("test", 4, 2)))
    table["cifar10-jpeg"] = dataclasses.replace(table["cifar10-jpeg"], pieces=((form,),))


@pytest.mark.parametrize("form", ["", ".tar.xz", ".tar.gz", ".tar", ".zip"])
@pytest.mark.parametrize("top", ["", "cifar10-jpeg/"])
def test_image_files_in_a_folder_or_archive(small_jpeg, tmp_path, form, top):
    files = image_files() | {"README.txt": b"1"}

    def lay(files):
        if form:
            data = packed({top + name: data for name, data in files.items()}, form.lstrip("."))
            (tmp_path / f"cifar10-jpeg{form}").write_bytes(data)
        else:
            put(tmp_path / "cifar10-jpeg", files)

    lay(files)
    assert states("cifar10-jpeg", tmp_path) == [(f"cifar10-jpeg{form}", "verified")]
    assert present("cifar10-jpeg", tmp_path) == present("corrupted_cifar10", tmp_path) == "yes"
    assert present("cifar10", tmp_path) == "no"
    lay(files | {"train/c/0.png": picture()})
    (found,) = check("corrupted_cifar10", tmp_path)
    assert (
        found.state == "wrong" and "train: 5 images in 3 folders, expected 4 in 2" in found.detail
    )


def test_too_few_images_and_moved_images_are_wrong(small_jpeg, tmp_path):
    files = image_files()
    data = files.pop("test/a/0.jpg")
    put(tmp_path / "cifar10-jpeg", files)
    (found,) = check("cifar10-jpeg", tmp_path)
    assert "test: 3 images in 2 folders, expected 4 in 2" in found.detail
    put(tmp_path / "cifar10-jpeg", {"test/0.jpg": data})  # in no class folder: not counted
    assert states("cifar10-jpeg", tmp_path) == [("cifar10-jpeg", "wrong")]
    put(tmp_path / "cifar10-jpeg", {"test/c/0.jpg": data})
    (found,) = check("cifar10-jpeg", tmp_path)
    assert "test: 4 images in 3 folders, expected 4 in 2" in found.detail


def test_a_file_that_is_no_image_is_wrong(small_jpeg, tmp_path):
    put(tmp_path / "cifar10-jpeg", image_files() | {"train/a/1.jpg": b"<html>"})
    (found,) = check("cifar10-jpeg", tmp_path)
    assert found.detail == "1 files cannot be read as images, the first is train/a/1.jpg"


def test_a_truncated_archive_of_images_is_wrong(small_jpeg, tmp_path):
    data = packed(image_files(), "tar.xz")
    (tmp_path / "cifar10-jpeg.tar.xz").write_bytes(data[:-20])
    (found,) = check("cifar10-jpeg", tmp_path)
    assert found.state == "wrong" and "cannot be read to its end" in found.detail


def test_the_image_form_of_cifar10_cannot_be_fetched(tmp_path):
    with pytest.raises(DataMissing, match="cifar10-jpeg has no fixed address: put cifar10-jpeg"):
        get("cifar10-jpeg", tmp_path)


@pytest.fixture
def small_waterbirds(table, server):
    """Waterbirds with three images, on the server; the files by name."""
    files = {f"{c}/{c}_{i}.jpg": picture() for c, i in (("001.A", 0), ("001.A", 1), ("002.B", 0))}
    text = "".join(f"{i},{name},0,0,0\n" for i, name in enumerate(files))
    files["metadata.csv"] = ("img_id,img_filename,y,split,place\n" + text).encode()
    inner = TABLE["waterbirds"].pieces[1][0].path.rpartition("/")[2]
    data = small_archive(
        table, "waterbirds", {f"{inner}/{name}": data for name, data in files.items()},
        server.url("waterbirds.tar.gz"), size=None, md5="",
    )  # fmt: skip
    server.add("waterbirds.tar.gz", data)
    table_piece, (images, *_) = table["waterbirds"].pieces
    images = dataclasses.replace(images, splits=(("", 3, 2),))
    table["waterbirds"] = dataclasses.replace(table["waterbirds"], pieces=(table_piece, (images,)))
    return files


def test_waterbirds_without_any_published_digest(small_waterbirds, server, tmp_path):
    assert all(f.state == "verified" for f in get("waterbirds", tmp_path))
    folder = tmp_path / TABLE["waterbirds"].pieces[1][0].path
    assert read(folder) == small_waterbirds
    known = download.recorded(tmp_path)
    archive = server.files["waterbirds.tar.gz"]
    assert set(known.values()) == {
        hashlib.sha256(b).hexdigest() for b in (archive, small_waterbirds["metadata.csv"])
    }
    table = folder / "metadata.csv"
    table.write_bytes(table.read_bytes() + b"\n")
    assert states("waterbirds", tmp_path)[0][1] == "wrong"  # differs from what was recorded


@pytest.mark.parametrize("fault", ["image gone", "no column", "empty"])
def test_a_table_without_digest_must_list_what_is_there(small_waterbirds, tmp_path, fault):
    folder = tmp_path / TABLE["waterbirds"].pieces[1][0].path
    put(folder, small_waterbirds)
    assert verified("waterbirds", tmp_path)
    if fault == "image gone":
        (folder / "002.B" / "002.B_0.jpg").unlink()
    else:
        (folder / "metadata.csv").write_text({"no column": "a,b\n1,2\n", "empty": ""}[fault])
    first = next(check("waterbirds", tmp_path))
    assert first.state == "wrong" and "images that it lists are missing" in first.detail


def test_celeba_by_hand_as_zip_or_folder(table, tmp_path):
    contents = {
        "celeba/img_align_celeba.zip": packed({"img_align_celeba/000001.jpg": picture()}, "zip"),
        "celeba/list_attr_celeba.txt": b"1\nMale\n000001.jpg 1\n",
        "celeba/list_eval_partition.txt": b"000001.jpg 0\n",
    }
    with pytest.raises(DataMissing) as error:
        get("celeba", tmp_path)
    for file in table["celeba"].fetched:
        assert file.page in str(error.value) and file.md5 in str(error.value)
    pieces = []
    for piece in table["celeba"].pieces:
        file = dataclasses.replace(
            piece[0], size=len(contents[piece[0].path]), sha256="",
            md5=hashlib.md5(contents[piece[0].path]).hexdigest(),
        )  # fmt: skip
        more = (
            dataclasses.replace(f, splits=(("", 1, 0),)) for f in piece[1:] if isinstance(f, Images)
        )
        pieces.append((file, *more))
    table["celeba"] = dataclasses.replace(
        table["celeba"], pieces=tuple(pieces), fetched=tuple(piece[0] for piece in pieces)
    )
    put(tmp_path, contents)
    assert verified("celeba", tmp_path) and present("celeba", tmp_path) == "yes"
    assert all(f.state == "verified" for f in get("celeba", tmp_path))
    assert (tmp_path / "celeba" / "img_align_celeba.zip").is_file()  # it stays: a person put it
    with zipfile.ZipFile(tmp_path / "celeba" / "img_align_celeba.zip") as archive:
        archive.extractall(tmp_path / "celeba")
    (tmp_path / "celeba" / "img_align_celeba.zip").unlink()
    assert verified("celeba", tmp_path)
    (tmp_path / "celeba" / "img_align_celeba" / "000001.jpg").unlink()
    with pytest.raises(DataMissing, match="img_align_celeba.zip has to be fetched by hand"):
        get("celeba", tmp_path)
    (tmp_path / "celeba" / "img_align_celeba" / "000001.jpg").write_bytes(picture())
    (tmp_path / "celeba" / "list_eval_partition.txt").write_bytes(b"000001.jpg 2\n")
    with pytest.raises(ValueError, match=r"list_eval_partition\.txt is wrong: MD5.*Delete it"):
        get("celeba", tmp_path)


WNIDS = ("n02119789", "n01440764", "n03126707")  # in the devkit's order, which is not sorted


@pytest.fixture
def small_imagenet(table, tmp_path):
    """Three classes: two training images each, four for validation; archives in the root."""
    import numpy as np
    from scipy.io import savemat

    train = {
        f"{w}.tar": packed({f"{w}_{i}.JPEG": picture() for i in range(2)}, "tar") for w in WNIDS
    }
    val = {f"ILSVRC2012_val_{i:08d}.JPEG": picture(i + 8) for i in range(1, 5)}
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(i + 1, w, "a word", 0) for i, w in enumerate(WNIDS)] + [(1001, "n00000001", "x", 3)]
    savemat(meta := io.BytesIO(), {"synsets": np.array(rows, dtype=kinds).reshape(-1, 1)})
    kit = {
        "ILSVRC2012_devkit_t12/data/meta.mat": meta.getvalue(),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": b"3\n1\n1\n2\n",
    }
    data = {
        "img_train.tar": packed(train, "tar"), "img_val.tar": packed(val, "tar"),
        "devkit_t12.tar.gz": packed(kit, "tar.gz"),
    }  # fmt: skip
    data = {f"imagenet/ILSVRC2012_{name}": content for name, content in data.items()}
    put(tmp_path, data)
    fetched = tuple(
        dataclasses.replace(
            file, size=len(data[file.path]), sha256=hashlib.sha256(data[file.path]).hexdigest()
        )
        for file in table["imagenet"].fetched
    )
    pieces = tuple(
        (dataclasses.replace(form, splits=(("", n, 3),)),)
        for (form,), n in zip(table["imagenet"].pieces, (6, 4), strict=True)
    )
    table["imagenet"] = dataclasses.replace(table["imagenet"], fetched=fetched, pieces=pieces)
    return val


def test_imagenet_is_laid_out_by_class(small_imagenet, tmp_path):
    assert present("imagenet", tmp_path) == "partly"
    assert all(f.state == "verified" for f in get("imagenet", tmp_path))
    root = tmp_path / "imagenet"
    assert {p for p in read(root) if p.startswith("train/")} == {
        f"train/{w}/{w}_{i}.JPEG" for w in WNIDS for i in range(2)
    }
    expected = dict(zip(small_imagenet, (WNIDS[2], WNIDS[0], WNIDS[0], WNIDS[1]), strict=True))
    assert read(root / "val") == {f"{w}/{n}": small_imagenet[n] for n, w in expected.items()}
    assert (root / "ILSVRC2012_img_val.tar").is_file()  # archives put by hand stay
    assert (root / imagenet.DEVKIT[0] / imagenet.META).is_file()  # where the loader looks for it
    assert present("imagenet", tmp_path) == "yes"
    shutil.rmtree(root / "val")
    assert all(f.state == "verified" for f in get("imagenet", tmp_path))  # the kit is there


@pytest.mark.parametrize(("gone", "made", "said"), [
    ("img_train.tar", "val", "img_train.tar has to be fetched by hand"),
    ("img_val.tar", "train", "img_val.tar has to be fetched by hand"),
    ("devkit_t12.tar.gz", "train", "devkit_t12.tar.gz has to be fetched by hand"),
])  # fmt: skip
def test_what_is_there_of_imagenet_is_laid_out(small_imagenet, tmp_path, gone, made, said):
    root = tmp_path / "imagenet"
    (root / f"ILSVRC2012_{gone}").unlink()
    with pytest.raises(DataMissing, match=said):
        get("imagenet", tmp_path)
    assert {p.name for p in root.iterdir() if p.is_dir()} - {"ILSVRC2012_devkit_t12"} == {made}


def test_a_wrong_archive_of_imagenet_is_refused(small_imagenet, tmp_path):
    path = tmp_path / "imagenet" / "ILSVRC2012_img_val.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match=r"img_val\.tar is wrong: SHA-256 found"):
        get("imagenet", tmp_path)
    assert not (tmp_path / "imagenet" / "val").exists()


def put_devkit(table, root, files):
    """Another development kit in place of the published one."""
    data = packed(files, "tar.gz")
    train, kit, val = table["imagenet"].fetched
    (root / kit.path).write_bytes(data)
    kit = dataclasses.replace(kit, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    table["imagenet"] = dataclasses.replace(table["imagenet"], fetched=(train, kit, val))


def test_the_devkit_must_be_one(small_imagenet, table, tmp_path):
    put_devkit(table, tmp_path, {"data/other.txt": b"1"})
    with pytest.raises(ValueError, match=r"meta\.mat cannot be read as the development kit's"):
        get("imagenet", tmp_path)
    assert not (tmp_path / "imagenet" / "val").exists()


@pytest.mark.parametrize(("labels", "words"), [
    (b"3\n1\n1\n4\n", "ground_truth.txt has the label 4"),
    (b"3\n1\n1\n", r"'ILSVRC2012_val_00000004.JPEG' is no image 1 to 3"),
])  # fmt: skip
def test_labels_of_the_devkit_must_fit(small_imagenet, table, tmp_path, labels, words):
    name = table["imagenet"].fetched[1].path
    files = {n: b for n, b in archives.members(tmp_path / name)}
    put_devkit(table, tmp_path, files | {n: labels for n in files if n.endswith(".txt")})
    with pytest.raises(ValueError, match=words):
        get("imagenet", tmp_path)
    assert not (tmp_path / "imagenet" / "val").exists()


def test_flat_validation_images_do_as_well(small_imagenet, tmp_path):
    put(tmp_path / "imagenet" / "val", small_imagenet)
    put(tmp_path / "imagenet" / "train", {f"{i}.JPEG": picture() for i in range(6)})
    found = {f.path: f.state for f in check("imagenet", tmp_path)}
    assert found["imagenet/val"] == "verified" and found["imagenet/train"] == "wrong"


def test_check_writes_nothing(small_cifar, small_jpeg, tmp_path):
    get("cifar10", tmp_path)
    put(tmp_path / "cifar10-jpeg", image_files())
    before = {p: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.rglob("*")]}
    for name in TABLE:
        list(check(name, tmp_path))
        present(name, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.rglob("*")]} == before


def test_real_data(real_data):
    assert verified("mnist", real_data)


def test_images_of_one_set_are_named_once():
    paths = [f.path for d in TABLE.values() for p in d.pieces for f in p if isinstance(f, Images)]
    assert len(paths) == len(set(paths)) == 4 + len(PLACES)
