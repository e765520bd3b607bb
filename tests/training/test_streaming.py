"""Training and measuring on images that are read from disk: as on the same images in memory."""

import dataclasses

import pytest
import torch

import lrsc
from lrsc.datasets.images import Images


@pytest.fixture(scope="module")
def waterbirds(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRSC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield lrsc.datasets.load(
            "waterbirds", source="embedded", size=16, n_train=60, augment=False
        )


def in_memory(ds):
    splits = {name: getattr(ds, name) for name in ("train", "test", "val")}
    loaded = {k: dataclasses.replace(s, x=s.x[:]) for k, s in splits.items()}
    return dataclasses.replace(ds, **loaded)


CONFIG = lrsc.TrainConfig(lr=0.01, batch_size=20, max_epochs=2, stop_at_accuracy=None)


def test_streamed_training_equals_training_in_memory(waterbirds):
    assert isinstance(waterbirds.train.x, Images)
    options = {"model_options": {"hidden": (16,)}}
    (streamed,) = lrsc.fit("fcn", waterbirds, CONFIG, **options)
    (loaded,) = lrsc.fit("fcn", in_memory(waterbirds), CONFIG, **options)
    assert torch.equal(streamed.curves["loss"], loaded.curves["loss"])
    for left, right in zip(streamed.model.parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(left, right)
    assert streamed.train_accuracy == loaded.train_accuracy


def test_streamed_measures_equal_those_in_memory(waterbirds):
    net = lrsc.models.build("fcn", waterbirds.input_shape, 2, hidden=(16,))
    streamed, loaded = (lrsc.measure(net, ds) for ds in (waterbirds, in_memory(waterbirds)))
    assert streamed.equals(loaded)


def test_augmentation_is_seeded_and_for_training_only(waterbirds):
    seen = []

    def augment(x, generator):
        seen.append(len(x))
        return x.flip(-1) if torch.rand(1, generator=generator) < 0.5 else x

    train = dataclasses.replace(waterbirds.train, augment=augment)
    ds = dataclasses.replace(waterbirds, train=train)
    one, again = (
        lrsc.fit("fcn", ds, CONFIG, model_options={"hidden": (16,)})[0].curves["loss"]
        for _ in range(2)
    )
    plain = lrsc.fit("fcn", waterbirds, CONFIG, model_options={"hidden": (16,)})[0].curves["loss"]
    assert torch.equal(one, again) and not torch.equal(one, plain)
    assert seen == [20] * 12  # three steps, two epochs, two runs: not the evaluations


def test_a_take_of_a_streamed_split_stays_on_disk(waterbirds):
    part = waterbirds.train.take(torch.tensor([5, 2]))
    assert isinstance(part.x, Images) and len(part) == 2
    assert torch.equal(part.x[:], waterbirds.train.x[torch.tensor([5, 2])])
