"""Colored MNIST: exact counts, colours, unbiased test set, sources, damaged files."""

import gzip
import logging

import numpy as np
import pytest
import torch

from lrsc.datasets import load
from lrsc.datasets.colored_mnist import COLOURS
from lrsc.datasets.raw import sources
from lrsc.errors import DataMissing


def counts(split):
    return torch.bincount(split.y * 10 + split.bias, minlength=100).view(10, 10)


@pytest.mark.parametrize("rho", [0.0, 0.02, 0.025, 0.1, 0.5, 1.0])
def test_conflicting_counts_are_exact_and_even(rho):
    train = load("colored_mnist", source="embedded", rho=rho).train
    for c, row in enumerate(counts(train)):
        others = torch.cat([row[:c], row[c + 1 :]])
        assert int(others.sum()) == round(rho * 120)
        assert int(others.max() - others.min()) <= 1
        assert int(row[c]) == 120 - round(rho * 120)


def test_colours_of_conflicting_samples_even_out_over_classes():
    train = load("colored_mnist", source="embedded", rho=0.025).train
    used = torch.bincount(train.bias[train.conflicting], minlength=10)
    assert int(used.min()) >= 2 and int(used.max()) <= 4  # 30 samples on 10 colours


def test_bias_is_independent_of_the_label_in_the_test_split(digits):
    table = counts(digits.test)
    assert int((table.max(1).values - table.min(1).values).max()) <= 1
    assert int(table.sum(0).max() - table.sum(0).min()) <= 1  # each colour equally often as well


def test_an_image_is_grey_times_its_colour(digits):
    source = sources.digits().content
    test = digits.test
    grey, x = source[2].astype(float), test.x.numpy().astype(float)
    expected = grey[:, None] * COLOURS[test.bias][:, :, None, None]
    # five sigma of jitter 0.005 on full brightness, and rounding
    assert np.abs(x - expected).max() <= 255 * 0.005 * 5 + 0.5


def test_without_jitter_the_colours_are_the_published_ones():
    test = load("colored_mnist", source="embedded", jitter=0.0).test
    grey = sources.digits().content[2]
    expected = np.rint(grey[:, None] * COLOURS[test.bias].astype(np.float32)[:, :, None, None])
    assert np.array_equal(test.x.numpy(), expected)


def test_inputs_are_standardised_per_channel(digits):
    x = digits.train.inputs(digits.train.x)
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(x.std((0, 2, 3)), torch.ones(3), atol=1e-3)
    assert torch.equal(digits.test.mean, digits.train.mean)


def test_without_standardising_pixels_are_in_0_to_1():
    train = load("colored_mnist", source="embedded", standardise=False).train
    x = train.inputs(train.x)
    assert float(x.min()) == 0 and 0.9 < float(x.max()) <= 1


def test_same_seed_same_bytes_another_seed_not():
    one, two, other = (load("colored_mnist", source="embedded", seed=s) for s in (1, 1, 2))
    assert torch.equal(one.train.x, two.train.x) and torch.equal(one.train.bias, two.train.bias)
    assert not torch.equal(one.train.bias, other.train.bias)


def test_n_train_keeps_classes_in_proportion():
    train = load("colored_mnist", source="embedded", n_train=500, rho=0.1).train
    assert torch.bincount(train.y).tolist() == [50] * 10
    assert int(train.conflicting.sum()) == 50


def test_digits_are_split_without_overlap():
    x_train, y_train, x_test, y_test = sources.digits().content
    assert len(y_train) == 1200 and len(y_test) == 597 and x_train.shape[1:] == (28, 28)
    assert np.bincount(y_train).tolist() == [120] * 10
    assert x_train.max() == 255 and x_train[:, :4].max() == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [("colored_mnis", "'colored_mnist'"), ("xyz", "Valid: .*colored_mnist.*waterbirds")],
)
def test_unknown_data_set_gets_the_nearest_and_the_list(name, words):
    with pytest.raises(ValueError, match=words):
        load(name)


def test_unknown_option_and_source():
    with pytest.raises(ValueError, match="'sigma'.*jitter"):
        load("colored_mnist", source="embedded", sigma=1)
    with pytest.raises(ValueError, match="'fake'.*embedded"):
        load("colored_mnist", source="fake")


def test_absent_data_say_where_and_how(tmp_path):
    with pytest.raises(DataMissing) as error:
        load("colored_mnist", root=tmp_path, source="real")
    text = str(error.value)
    assert "train-images-idx3-ubyte" in text and str(tmp_path / "MNIST" / "raw") in text
    assert "lrsc data get mnist" in text
    assert isinstance(error.value, FileNotFoundError) and isinstance(error.value, ValueError)


def test_auto_falls_back_with_one_clear_line(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert load("colored_mnist", root=tmp_path).source_id == "digits"
        load("colored_mnist", root=tmp_path)
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 1 and "stand-in 'digits'" in lines[0] and str(tmp_path) in lines[0]


def test_a_partial_mnist_is_an_error_not_a_stand_in(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"x")
    with pytest.raises(DataMissing, match="train-images"):
        load("colored_mnist", root=tmp_path)


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Four small IDX files with their own checksums, in the published layout."""
    import hashlib
    import struct

    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    x, y, x_test, y_test = sources.digits().content
    known = {}
    for (name, (magic, _)), array in zip(
        sources.MNIST_FILES.items(), (x, y, x_test, y_test), strict=True
    ):
        head = struct.pack(f">{1 + array.ndim}i", magic, *array.shape)
        (folder / name).write_bytes(head + array.tobytes())
        known[name] = (magic, hashlib.md5((folder / name).read_bytes()).hexdigest())
    monkeypatch.setattr(sources, "MNIST_FILES", known)
    return tmp_path


def test_idx_files_are_read(small_mnist):
    ds = load("colored_mnist", root=small_mnist, source="real")
    assert ds.source_id == "mnist" and len(ds.train) == 1200


def test_packed_and_raw_files_have_the_same_checksum(small_mnist):
    raw = sources.mnist(small_mnist)
    for path in (small_mnist / "MNIST" / "raw").iterdir():
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert sources.mnist(small_mnist).checksum == raw.checksum


@pytest.mark.parametrize("fault", ["truncated", "altered", "empty"])
def test_damaged_file_is_named_with_found_and_expected(small_mnist, fault):
    path = small_mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes({"truncated": data[:-3], "altered": data, "empty": b""}[fault])
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte.*found [0-9a-f]+, expected"):
        load("colored_mnist", root=small_mnist, source="real")


def test_truncated_gz_is_named(small_mnist):
    folder = small_mnist / "MNIST" / "raw"
    path = folder / "t10k-images-idx3-ubyte"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    (folder / f"{path.name}.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz cannot be read"):
        load("colored_mnist", root=small_mnist, source="real")


def test_real_mnist(real_data):
    ds = load("colored_mnist", root=real_data, source="real")
    assert ds.source_id == "mnist"
    assert ds.train.x.shape == (60_000, 3, 28, 28) and len(ds.test) == 10_000
    per_class = torch.bincount(ds.train.y)
    conflicting = torch.bincount(ds.train.y[ds.train.conflicting])
    assert conflicting.tolist() == [round(0.025 * n) for n in per_class.tolist()]
    table = counts(ds.test)
    assert int((table.max(1).values - table.min(1).values).max()) <= 1
