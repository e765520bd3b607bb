"""The table of what is published."""

import re

import pytest

from lrsc.datasets import cifar
from lrsc.datasets.raw import sources
from lrsc.datasets.raw.download import File
from lrsc.datasets.raw.published import TABLE
from lrsc.datasets.waterbirds import PLACES

FILES = [(name, file) for name, dataset in TABLE.items() for file in dataset.fetched] + [
    (name, form)
    for name, dataset in TABLE.items()
    for piece in dataset.pieces
    for form in piece
    if isinstance(form, File)
]


def test_the_table_holds_the_data_sets_of_the_paper():
    composed = {"colored_mnist", "double_mnist", "mnist_cifar", "corrupted_cifar10"}
    assert TABLE.keys() == composed | {
        "parity", "moon_star", "celeba", "waterbirds", "cifar10", "cifar100", "imagenet",
        "mnist", "cifar10-jpeg",
    }  # fmt: skip
    assert {n for n, d in TABLE.items() if d.needs} == composed
    assert all(need in TABLE for d in TABLE.values() for need in d.needs)
    assert {n for n, d in TABLE.items() if not d.needs and not d.pieces} == {"parity", "moon_star"}


@pytest.mark.parametrize(("name", "file"), FILES, ids=lambda v: getattr(v, "path", v))
def test_every_digest_has_its_form_and_its_source(name, file):
    assert re.fullmatch(r"([0-9a-f]{32})?", file.md5)
    assert re.fullmatch(r"([0-9a-f]{64})?", file.sha256)
    if file.md5 or file.sha256:
        assert len(file.source) > 10
    # the publisher of Waterbirds states nothing, and CSV lists are Kaggle's
    if name != "waterbirds" and not file.path.endswith(".csv"):
        assert file.md5
    assert all(url.startswith("https://") and url.endswith(file.path.rpartition("/")[2])
               for url in file.urls)  # fmt: skip
    assert not file.unpack or file.into


def test_digests_are_those_of_torchvision():
    from torchvision import datasets

    theirs = {f"MNIST/raw/{name}": md5 for name, md5 in datasets.MNIST.resources}
    for kind in (datasets.CIFAR10, datasets.CIFAR100):
        theirs[kind.filename] = kind.tgz_md5
        for name, md5 in kind.train_list + kind.test_list:
            theirs[f"{kind.base_folder}/{name}"] = md5
    theirs |= {f"celeba/{name}": md5 for _, md5, name in datasets.CelebA.file_list}
    theirs |= {f"imagenet/{name}": md5 for name, md5 in datasets.imagenet.ARCHIVE_META.values()}
    ours = {file.path: file.md5 for _, file in FILES}
    common = ours.keys() & theirs.keys()
    assert {path: ours[path] for path in common} == {path: theirs[path] for path in common}
    unpacked = {f"MNIST/raw/{name}" for name in sources.MNIST_FILES}  # torchvision has no digest
    assert ours.keys() - common == unpacked | {
        "waterbirds/waterbird_complete95_forest2water2.tar.gz",
        *(f"{place}/metadata.csv" for place in PLACES),
        "celeba/list_attr_celeba.csv",
        "celeba/list_eval_partition.csv",
    }


def test_loaders_and_table_agree_on_names_and_digests():
    for name, (folder, files) in cifar.BATCHES.items():
        ours = {form.path: form.md5 for piece in TABLE[name].pieces for form in piece}
        assert ours == {f"{folder}/{file}": md5 for file, md5 in files.items()}
    plain = {piece[0].path: piece[0].md5 for piece in TABLE["mnist"].pieces}
    assert plain == {f"MNIST/raw/{n}": md5 for n, (_, md5) in sources.MNIST_FILES.items()}
    (images,) = TABLE["cifar10-jpeg"].pieces[0]
    assert {images.path + suffix for suffix in ("", *images.packed)} == {
        cifar.IMAGES + suffix for suffix in cifar.SUFFIXES
    }
