"""Drawn stand-ins: counts, masks, layouts, the same bytes every time, and something to learn."""

import gzip
import hashlib
import importlib.util
import json
import logging
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from lrsc.datasets import celeba, imagenet, waterbirds
from lrsc.datasets.raw.sources import is_stand_in
from lrsc.datasets.standins import drawing, miniatures
from lrsc.errors import DataMissing

NOWHERE = Path("nowhere")
BIASED = {"celeba": celeba, "waterbirds": waterbirds}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LRSC_CACHE", str(tmp_path / "cache"))


def digests(folder):
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths
    }


def groups(split):
    return torch.bincount(split.y * 2 + split.bias, minlength=4).tolist()


@pytest.mark.parametrize("name", BIASED)
@pytest.mark.parametrize("rho", [0.0, 0.05, 0.1, 0.5, 1.0])
def test_counts_are_exact(tmp_path, name, rho):
    miniatures.make(name, tmp_path, n=40, rho=rho)
    ds = BIASED[name].build(BIASED[name].find(tmp_path, "auto"), size=16)
    k = round(20 * rho)
    assert groups(ds.train) == [20 - k, k, k, 20 - k]
    assert max(groups(ds.val)) - min(groups(ds.val)) <= 1 and len(ds.val) == 10
    assert groups(ds.test) == [5, 5, 5, 5]
    assert ds.source_id == f"miniature-{name}" and is_stand_in(ds.source_id)
    assert ds.rho == pytest.approx(k / 20)


def test_imagenet_and_cifar_have_equal_classes(tmp_path):
    from lrsc.datasets import cifar

    miniatures.make("imagenet", tmp_path, n=40)
    ds = imagenet.build(imagenet.find(tmp_path, "auto"), size=16)
    assert torch.bincount(ds.train.y).tolist() == [4] * 10
    assert torch.bincount(ds.test.y).tolist() == [2] * 10
    assert ds.class_names == drawing.SHAPES and ds.source_id == "miniature-imagenet"
    for name, n, classes in (("cifar10", 40, 10), ("cifar100", 200, 100)):
        miniatures.make(name, tmp_path, n=n)
        x, y, x_test, y_test = cifar.batches(name, tmp_path).content
        assert x.shape == (n, 3, 32, 32) and x_test.shape == (n // 2, 3, 32, 32)
        assert np.bincount(y).tolist() == [n // classes] * classes
        assert np.bincount(y_test).tolist() == [n // 2 // classes] * classes


@pytest.mark.parametrize("encoding", ["bytes", "latin1"])
def test_cifar_batches_are_pickled_as_published(tmp_path, encoding):
    path = miniatures.make("cifar100", tmp_path, n=100) / "train"
    data = path.read_bytes()
    # Python 2's byte strings, not Python 3's detour through _codecs
    assert data.startswith(b"\x80\x02") and b"_codecs" not in data
    assert b"cnumpy.core.multiarray\n_reconstruct" in data
    batch = pickle.loads(data, encoding=encoding)
    key = str.encode if encoding == "bytes" else str
    names = ("data", "batch_label", "filenames", "fine_labels", "coarse_labels")
    assert set(batch) == {key(name) for name in names}
    assert batch[key("data")].shape == (100, 3072) and batch[key("data")].dtype == np.uint8
    fine, coarse = batch[key("fine_labels")], batch[key("coarse_labels")]
    assert sorted(fine) == list(range(100)) and [k // 5 for k in fine] == coarse
    assert batch[key("filenames")][7] == key("train_000007.png")
    meta = pickle.loads((path.parent / "meta").read_bytes(), encoding=encoding)
    assert len(meta[key("fine_label_names")]) == 100 and len(meta[key("coarse_label_names")]) == 20


@pytest.mark.parametrize("draw", [drawing.birds, drawing.objects])
def test_a_mask_covers_exactly_the_object(draw, monkeypatch):
    y, other = np.arange(40) % 2, np.arange(40) // 2 % 2
    picture, mask = draw(y, other, 32, np.random.default_rng(5))
    paint = drawing._paint
    # the same random numbers, nothing painted: the background alone
    monkeypatch.setattr(drawing, "_paint", lambda p, *a: (paint(p, *a), p)[1])
    background, same = draw(y, other, 32, np.random.default_rng(5))
    assert np.array_equal(mask, same)
    assert np.array_equal((picture != background).any(-1), mask)
    share = mask.mean((1, 2))
    assert share.min() > 0.03 and share.max() < 0.6


def test_the_mask_of_a_face_covers_exactly_the_hair(monkeypatch):
    y, bias = np.arange(40) % 2, np.arange(40) // 2 % 2
    picture, mask = drawing.faces(y, bias, 32, np.random.default_rng(5))
    paint, calls = drawing._paint, []

    def all_but_hair(p, *arguments):
        calls.append(1)
        painted = paint(p, *arguments)
        return p if len(calls) == 2 else painted

    monkeypatch.setattr(drawing, "_paint", all_but_hair)
    bald, _ = drawing.faces(y, bias, 32, np.random.default_rng(5))
    assert np.array_equal((picture != bald).any(-1), mask)


def test_masks_come_with_the_miniature_and_fit_the_images(tmp_path):
    folder = miniatures.make("celeba", tmp_path, n=20)
    ds = celeba.build(celeba.find(tmp_path, "auto"), size=64, n_train=10)
    assert ds.train.core_mask.shape == (10, 1, 64, 64) and ds.train.core_mask.dtype == torch.bool
    stored = torch.stack([
        torch.from_numpy(np.array(Image.open(path)) > 0)
        for path in sorted((folder / "masks").iterdir())[25:]
    ])  # fmt: skip
    assert torch.equal(ds.test.core_mask[:, 0], stored)
    swapped = celeba.build(
        celeba.find(tmp_path, "auto"), target="Male", spurious="Blond_Hair", size=16
    )
    assert swapped.train.core_mask is None  # the masks are the hair's
    miniatures.make("waterbirds", tmp_path, n=20)
    test = waterbirds.build(waterbirds.find(tmp_path, "auto"), size=56).test
    assert torch.equal(test.spurious_mask, ~test.core_mask)
    # outside of the birds, but for two pixels that JPEG smears: land is green, water blue
    x, wide = test.x[:].int(), F.max_pool2d(test.core_mask.float(), 5, 1, 2)[:, 0] > 0
    as_place = torch.where(
        test.bias[:, None, None] == 0, x[:, 1] > x[:, 2] + 10, x[:, 2] > x[:, 0] + 10
    )
    assert float(as_place[~wide].float().mean()) > 0.999
    assert float(as_place[test.core_mask[:, 0]].float().mean()) < 0.9


@pytest.mark.parametrize("name", miniatures.SETS)
def test_the_same_seed_gives_the_same_bytes_in_any_process(tmp_path, name):
    n = 100 if name == "cifar100" else 20
    script = "import sys; from pathlib import Path; from lrsc.datasets.standins import miniatures; "
    script += f"miniatures.make({name!r}, Path(sys.argv[1]), n={n}, seed=3)"
    one, two, other = (tmp_path / part for part in ("one", "two", "other"))
    if name in ("celeba", "imagenet"):  # a process takes seconds to start
        subprocess.run([sys.executable, "-c", script, one], check=True)
    else:
        miniatures.make(name, one, n=n, seed=3)
    miniatures.make(name, two, n=n, seed=3)
    miniatures.make(name, other, n=n, seed=4)
    assert digests(one) == digests(two)
    assert digests(one).keys() - {"x"} and digests(one) != digests(other)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("celebs",), r"unknown miniature 'celebs'\. Did you mean 'celeba'"),
        (("celeba", 3), "n must be a whole number of images >= 20, found 3"),
        (("cifar100", 99), ">= 100, found 99"),
        (("celeba", 20, 1.5), r"rho must be a share in \[0, 1\].*found 1\.5"),
        (("imagenet", 20, 0.1), r"None for imagenet; found 0\.1"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        miniatures.make(arguments[0], tmp_path, *arguments[1:])
    assert not list(tmp_path.iterdir())


def test_data_that_are_there_are_never_written_over(tmp_path):
    (tmp_path / "imagenet").mkdir()
    with pytest.raises(ValueError, match="imagenet is there already"):
        miniatures.make("imagenet", tmp_path, n=20)
    assert not list((tmp_path / "imagenet").iterdir())


def test_the_embedded_source_is_drawn_once(tmp_path, monkeypatch):
    make = miniatures.make
    monkeypatch.setattr(miniatures, "make", lambda name, folder: make(name, folder, n=20))
    first = waterbirds.find(NOWHERE, "auto")
    monkeypatch.setattr(miniatures, "make", None)
    again = waterbirds.find(NOWHERE, "embedded")
    assert first.key == again.key and first.source_id == "miniature-waterbirds"
    with pytest.raises(DataMissing, match=r"metadata\.csv not found.*source='embedded'"):
        waterbirds.find(NOWHERE, "real")


def test_a_miniature_under_the_data_root_does_not_pass_for_the_real_thing(tmp_path, caplog):
    miniatures.make("waterbirds", tmp_path, n=20)
    with caplog.at_level(logging.WARNING):
        assert waterbirds.find(tmp_path, "real").source_id == "miniature-waterbirds"
        assert not caplog.records
        (tmp_path / "waterbirds" / miniatures.MARK).unlink()
        assert waterbirds.find(tmp_path, "real").source_id == "waterbirds"
    assert "has 35 images, the published set 11788" in caplog.text


def script():
    path = Path(__file__).parents[2] / "data_scripts" / "miniatures.py"
    spec = importlib.util.spec_from_file_location("miniatures_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_packs_archives_that_unpack_into_a_data_root(tmp_path, monkeypatch, capsys):
    make = miniatures.make
    monkeypatch.setattr(miniatures, "make", lambda *a, **k: make(*a, **k, n=20))
    one, two = tmp_path / "one", tmp_path / "two"
    assert script().main(["--output", str(one), "celeba", "cifar10"]) == 0
    assert script().main(["--output", str(two), "--unpack", "celeba"]) == 0
    archive = one / "miniature-celeba.tar.gz"
    assert archive.read_bytes() == (two / "miniature-celeba.tar.gz").read_bytes()
    assert sorted(p.name for p in one.iterdir()) == [archive.name, "miniature-cifar10.tar.gz"]
    with tarfile.open(archive) as tar:
        tar.extractall(one, filter="data")
    assert digests(one / "celeba") == digests(two / "celeba")
    assert celeba.find(one, "auto").key == celeba.find(two, "auto").key
    assert str(archive) in capsys.readouterr().out
    assert script().main(["--output", str(two), "--unpack", "celeba"]) == 1
    assert "is there already" in capsys.readouterr().err
    mark = json.loads((one / "celeba" / miniatures.MARK).read_text())
    assert mark["name"] == "celeba" and mark["n"] == 20
    assert gzip.decompress(archive.read_bytes())[:6] == b"celeba"


def trained(x, y, x_test, classes, epochs):
    """Predictions of a small convolutional network after some epochs of Adam."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, 1, 1),
            nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 16, classes),
        )  # fmt: skip
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(50):
                loss = F.cross_entropy(net(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            return net(x_test).argmax(1)


@pytest.mark.parametrize("name", BIASED)
def test_a_small_network_learns_the_core_where_nothing_else_helps(tmp_path, name):
    miniatures.make(name, tmp_path, n=400, rho=0.5)
    ds = BIASED[name].build(BIASED[name].find(tmp_path, "auto"), size=32)
    x, x_test = (split.inputs(split.x[:]) for split in (ds.train, ds.test))
    right = trained(x, ds.train.y, x_test, 2, epochs=12) == ds.test.y
    assert float(right.float().mean()) > 0.75  # chance 0.5
    place = trained(x, ds.train.bias, x_test, 2, epochs=4) == ds.test.bias
    assert float(place.float().mean()) > 0.9  # the shortcut is learned soon


def test_a_small_network_falls_for_the_shortcut(tmp_path):
    miniatures.make("waterbirds", tmp_path, n=400, rho=0.05)
    ds = waterbirds.build(waterbirds.find(tmp_path, "auto"), size=32)
    x, x_test = (split.inputs(split.x[:]) for split in (ds.train, ds.test))
    right = trained(x, ds.train.y, x_test, 2, epochs=4) == ds.test.y
    conflicting = ds.test.conflicting
    assert float(right[~conflicting].float().mean()) > 0.9
    assert float(right[conflicting].float().mean()) < 0.5


@pytest.mark.parametrize(
    ("name", "chance", "least"), [("cifar10", 0.1, 0.5), ("imagenet", 0.1, 0.5)]
)
def test_a_small_network_tells_the_classes_apart(tmp_path, name, chance, least):
    from lrsc.datasets import cifar

    miniatures.make(name, tmp_path, n=800)
    if name == "imagenet":
        ds = imagenet.build(imagenet.find(tmp_path, "auto"), size=32)
        x, y, x_test, y_test = ds.train.x[:], ds.train.y, ds.test.x[:], ds.test.y
    else:
        content = cifar.batches(name, tmp_path).content
        x, y, x_test, y_test = (torch.tensor(part) for part in content)
    x, x_test = x / 128 - 1, x_test / 128 - 1
    right = trained(x, y.long(), x_test, 10, epochs=6) == y_test
    assert float(right.float().mean()) > least > chance
