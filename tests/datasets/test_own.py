"""Data sets of one's own: arrays, folders of images, torch's Datasets, and what each refuses."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

import lrsc
from lrsc.datasets import from_arrays, from_folder, from_torch
from lrsc.datasets.images import Images
from lrsc.errors import DataMissing

RNG = np.random.default_rng(0)
Y = np.array([0, 1, 2, 0, 1, 2, 0, 1])
B = np.array([0, 1, 2, 0, 1, 2, 1, 2])
X = RNG.integers(0, 256, (8, 3, 6, 6)).astype(np.uint8)


def drawn(place, sides=(6, 6), kinds=("cat", "dog"), parts=("train", "test"), mode="RGB", n=3):
    for part in parts:
        for kind in kinds:
            folder = place / part / kind
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(n):
                shape = sides if mode == "L" else (*sides, 3)
                pixels = RNG.integers(0, 256, shape).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return place


def test_arrays_make_a_data_set_that_is_trained_and_measured():
    data = from_arrays((X, Y, B), (X[:6], Y[:6], B[:6]), name="mine", class_names=("a", "b", "c"))
    assert (data.name, data.n_classes, data.source_id) == ("mine", 3, "own")
    assert data.train.bias.tolist() == B.tolist() and data.rho == 0.25
    inputs = data.train.inputs(data.train.x).double()
    assert inputs.mean((0, 2, 3)).abs().max() < 1e-5
    assert (inputs.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    assert torch.equal(data.test.mean, data.train.mean)
    (run,) = lrsc.fit("fcn", data, lrsc.TrainConfig(max_epochs=1, batch_size=4),
                      model_options={"hidden": (8,)}, progress=False)  # fmt: skip
    assert "worst_group_accuracy" in lrsc.measure(run, data)


def test_images_lie_with_channels_first_or_last_and_grey_ones_without():
    first = from_arrays((X, Y), (X, Y))
    last = from_arrays((X.transpose(0, 2, 3, 1), Y), (X.transpose(0, 2, 3, 1), Y))
    assert torch.equal(first.train.x, last.train.x) and first.checksum == last.checksum
    grey = from_arrays((X[:, 0], Y), (X[:, 0], Y))
    assert grey.input_shape == (1, 6, 6)
    assert from_arrays((X[:, :, 0, 0] / 9, Y), (X[:, :, 0, 0] / 9, Y)).train.mean is None
    assert from_arrays((X / 255, Y), (X / 255, Y)).train.mean is None


def test_constants_can_be_those_of_a_trained_network_and_a_flat_channel_has_std_1():
    given = from_arrays((X, Y), (X, Y), mean=[0.5] * 3, std=[0.25] * 3)
    assert given.train.mean.tolist() == [0.5] * 3
    flat = np.concatenate([X[:, :2], np.full_like(X[:, :1], 7)], 1)
    assert from_arrays((flat, Y), (flat, Y)).train.std[2] == 1


def test_without_bias_labels_what_needs_them_is_left_out():
    data = from_arrays((X, Y), (X, Y, None))
    assert data.train.bias is None and data.test.bias is None
    net = lrsc.models.build("fcn", data.input_shape, 3, hidden=(8,))
    found = lrsc.measure(net, data)
    assert "worst_group_accuracy" not in found and "unbiased_accuracy" in found


def test_names_of_bias_values_get_the_number_of_the_class_they_go_with():
    names = np.array(["sea", "land", "air"])[B]
    data = from_arrays((X, Y, names), (X, Y, names[::-1]))
    assert data.train.bias.tolist() == B.tolist()
    classes = ("air", "land", "sea")
    named = from_arrays((X, Y, names), (X, Y, names), class_names=classes)
    assert named.train.bias.tolist() == [classes.index(n) for n in names]
    more = np.array(["p", "q", "r", "p", "q", "r", "s", "q"])
    assert set(from_arrays((X, Y, more), (X, Y)).train.bias.tolist()) == {0, 1, 2, 3}


def test_the_checksum_is_of_the_content():
    sums = {
        from_arrays((X, Y, B), (X, Y)).checksum,
        from_arrays((X, Y), (X, Y)).checksum,
        from_arrays((X, Y), (X[::-1], Y)).checksum,
        from_arrays((X, Y), (X, Y), mean=0.5, std=0.5).checksum,
        from_arrays((X, Y), (X, Y), (X, Y)).checksum,
    }
    assert len(sums) == 5 and all(len(s) == 64 for s in sums)
    assert from_arrays((X, Y), (X, Y)).checksum == from_arrays((X, Y), (X, Y), name="b").checksum


@pytest.mark.parametrize(
    ("train", "test", "options", "text"),
    [
        ((X, Y), (X, None), {}, "the test split has no class labels y"),
        ((X, Y), X, {}, "test must be (x, y) or (x, y, bias), found ndarray"),
        ((X,), (X, Y), {}, "found 1 arrays"),
        ((X, Y[:3]), (X, Y), {}, "y of the train split must hold one label a sample"),
        ((X, Y, B[:3]), (X, Y), {}, "bias of the train split must hold one label a sample"),
        ((X, Y - 1), (X, Y), {}, "y of the train split must hold whole numbers >= 0, found -1"),
        ((X, Y), (X, Y + 3), {}, "labels y of the test split must be 0 to 2"),
        ((X, Y * 2), (X, Y), {}, "without gaps"),
        ((X, Y), (X[:, :, 1:], Y), {}, "samples of the test split have shape (3, 5, 6)"),
        ((X, Y), (X, Y), {"mean": 0.5}, "mean and std go together"),
        ((X, Y), (X, Y), {"name": ""}, "name must be a name"),
        ((X, Y, B - 1), (X, Y), {}, "bias_unknown"),
        ((X, Y, Y * 2 + [0, 0, 0, 1, 1, 1, 0, 0]), (X, Y, Y * 2), {}, "class and spurious feature"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_data_set(train, test, options, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        from_arrays(train, test, **options)


def test_a_folder_of_images_of_one_size_is_read_pixel_by_pixel(tmp_path):
    drawn(tmp_path)
    data = from_folder(tmp_path)
    assert (data.name, data.class_names) == (tmp_path.name, ("cat", "dog"))
    assert data.train.y.tolist() == [0, 0, 0, 1, 1, 1] and data.train.bias is None
    pixels = np.asarray(Image.open(tmp_path / "test/dog/1.png")).transpose(2, 0, 1)
    assert np.array_equal(data.test.x[4], pixels)
    assert abs(float(data.train.inputs(data.train.x).mean())) < 1e-5
    before = data.checksum
    drawn(tmp_path)
    assert from_folder(tmp_path).checksum != before


def test_grey_images_and_sizes_that_differ(tmp_path):
    drawn(tmp_path, mode="L")
    colour, grey = from_folder(tmp_path), from_folder(tmp_path, channels=1)
    assert colour.input_shape == (3, 6, 6) and grey.input_shape == (1, 6, 6)
    assert torch.equal(colour.train.x[:, 1:2], grey.train.x)
    drawn(tmp_path, sides=(9, 12), n=1)
    with pytest.raises(ValueError, match=r"0.png .*12 x 9.* pixels.*size=64"):
        from_folder(tmp_path)
    assert from_folder(tmp_path, size=8).input_shape == (3, 8, 8)


def test_images_that_are_too_many_for_memory_stay_on_disk(tmp_path, monkeypatch):
    drawn(tmp_path)
    held = from_folder(tmp_path)
    monkeypatch.setattr(lrsc.datasets.Split, "loaded", lambda self: self)
    data = from_folder(tmp_path)
    assert isinstance(data.train.x, Images) and len(data.checksum) == 64
    assert torch.equal(data.train.x[:], held.train.x)
    assert torch.equal(data.train.mean, held.train.mean)


def test_metadata_say_the_bias_by_number_or_name_and_may_lack_images(tmp_path):
    drawn(tmp_path)
    rows = ["file_name,group", "train/cat/0.png,snow", "train/cat/1.png,snow",
            "train/cat/2.png,grass", "train/dog/0.png,grass", "train/dog/1.png,grass",
            "train/dog/2.png,"]  # fmt: skip
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    data = from_folder(tmp_path)
    assert data.train.bias.tolist() == [0, 0, 1, 1, 1, -1] and data.test.bias is None
    table = tmp_path / "other.csv"
    table.write_text("filename,place,x\ntest\\cat\\0.png,1,a\ntest/dog/0.png,1,a\n")
    data = from_folder(tmp_path, metadata=table, column="place")
    assert data.test.bias.tolist() == [1, -1, -1, 1, -1, -1] and data.train.bias is None


def test_a_folder_with_one_class_is_refused(tmp_path):
    drawn(tmp_path, kinds=("cat",))
    with pytest.raises(ValueError, match="train has one class folder, 'cat': a classifier needs"):
        from_folder(tmp_path)


def test_folders_that_are_no_data_set(tmp_path):
    with pytest.raises(DataMissing, match="expected the folders train and test"):
        from_folder(tmp_path)
    drawn(tmp_path)
    drawn(tmp_path, kinds=("fox",), parts=("test",))
    with pytest.raises(ValueError, match="class folders differ: test has 'fox', train does not"):
        from_folder(tmp_path)
    drawn(tmp_path, kinds=("fox", "hen"), parts=("train",))
    with pytest.raises(ValueError, match="train has 'hen', test does not"):
        from_folder(tmp_path)
    loose = drawn(tmp_path / "loose")
    (loose / "train/cat/0.png").rename(loose / "train/0.png")
    with pytest.raises(ValueError, match=r"0\.png lies in no class folder"):
        from_folder(loose)
    flat = drawn(tmp_path / "flat", parts=("train",))
    (flat / "test").mkdir()
    with pytest.raises(ValueError, match="test has no class folders, and so no labels"):
        from_folder(flat)
    empty = drawn(tmp_path / "empty")
    for image in (empty / "test/dog").iterdir():
        image.unlink()
    with pytest.raises(ValueError, match="dog holds no image"):
        from_folder(empty)


def test_metadata_that_do_not_fit(tmp_path):
    drawn(tmp_path)
    with pytest.raises(DataMissing, match="is not a file"):
        from_folder(tmp_path, metadata=tmp_path / "none.csv")
    for text, said in (
        ("name,group\n", "must have a column 'group' and one of files"),
        ("file,place\n", "found 'file', 'place'"),
        ("file,group\ntrain/cat/9.png,1\n", "names 1 files that are not in"),
        ("file,group\ntrain/cat/1.png,1\ntrain/cat/1.png,0\n", "is listed a second time"),
        ("file,group\ntrain/cat/1.png\n", "found 1 fields, expected 2"),
        ("file,group\ntrain/cat/1.png,0\ntrain/cat/2.png,1\ntrain/dog/1.png,2\n"
         "test/cat/1.png,0\ntest/dog/1.png,2\n", "class and spurious feature together"),
    ):  # fmt: skip
        (tmp_path / "metadata.csv").write_text(text)
        with pytest.raises(ValueError, match=said):
            from_folder(tmp_path)


def test_what_a_folder_is_read_as_must_be_sensible(tmp_path):
    drawn(tmp_path)
    for options, said in (({"channels": 2}, "channels"), ({"size": 0}, "size must be")):
        with pytest.raises(ValueError, match=said):
            from_folder(tmp_path, **options)
    (tmp_path / "train/cat/0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"0\.png cannot be read as an image"):
        from_folder(tmp_path)


class Wilds(Dataset):
    """As the sets of WILDS are: a row of metadata a sample."""

    metadata_fields = ["background", "y"]  # noqa: RUF012

    def __len__(self):
        return len(Y)

    def __getitem__(self, i):
        return torch.from_numpy(X[i]) / 255, torch.tensor(Y[i]), torch.tensor([B[i], Y[i]])


class Pictures(Dataset):
    classes = ["a", "b", "c"]  # noqa: RUF012

    def __init__(self, mode="RGB", samples=None):
        self.mode, self.samples = mode, samples

    def __len__(self):
        return len(Y)

    def __getitem__(self, i):
        if self.samples:
            return self.samples(i)
        return Image.fromarray(X[i].transpose(1, 2, 0)).convert(self.mode), int(Y[i])


@pytest.mark.parametrize(
    "bias", [0, "background", lambda row: row[0], {"train": B, "test": B.tolist()}]
)
def test_bias_of_a_torch_dataset_is_a_column_a_function_or_arrays(bias):
    data = from_torch(Wilds(), Wilds(), bias=bias)
    assert data.train.bias.tolist() == data.test.bias.tolist() == B.tolist()
    assert data.train.x.dtype == torch.float32 and data.train.mean is None
    assert data.name == "Wilds"


def test_torch_datasets_of_pairs_triples_and_pictures():
    tensors = (torch.from_numpy(X), torch.from_numpy(Y))
    pairs, triples = TensorDataset(*tensors), TensorDataset(*tensors, torch.from_numpy(B))
    data = from_torch(triples, pairs, pairs)
    assert data.train.bias.tolist() == B.tolist() and data.test.bias is None
    assert torch.equal(data.train.x, tensors[0]) and len(data.val) == 8
    assert from_torch(Wilds(), Wilds()).train.bias is None
    pictures = from_torch(Pictures(), Pictures())
    assert pictures.class_names == ("a", "b", "c")
    assert torch.equal(pictures.train.x, tensors[0])
    assert from_torch(Pictures("L"), Pictures("L")).input_shape == (1, 6, 6)


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("train", "options", "text"),
    [
        (Stream(), {}, "train must be a map-style Dataset, with a length > 0 and an index"),
        (Pictures(samples=lambda i: X[i]), {}, "without labels y nothing can be measured"),
        (Pictures(samples=lambda i: (X[i], None)), {}, "found 2 values (ndarray, NoneType)"),
        (Pictures(samples=lambda i: (X[i][:, i:], 0)), {}, "sample 1 (3, 5, 6)"),
        (Pictures(), {"bias": 0}, "have no metadata"),
        (Wilds(), {"bias": "place"}, "Valid: background, y"),
        (Wilds(), {"bias": 5}, "bias=5 is no column of the metadata"),
        (Wilds(), {"bias": lambda row: row}, "must be one number or name"),
        (Wilds(), {"bias": {"all": B}}, "split in bias"),
        (Pictures(samples=lambda i: ("text", 0)), {}, "must hold numbers"),
    ],
)  # fmt: skip
def test_torch_datasets_that_are_none(train, options, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        from_torch(train, Wilds(), **options)
