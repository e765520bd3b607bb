"""What a user gives a split: any type of number, and errors that name what is wrong."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lrsc
from lrsc.datasets import BiasedDataset, Split

N = 12
Y = torch.arange(N) % 3
BIAS = torch.arange(N) % 2
X = torch.linspace(-1, 1, N * 4).reshape(N, 4)

WHOLE = {
    "list": lambda t: t.tolist(),
    "tuple": lambda t: tuple(t.tolist()),
    "list of scalars": lambda t: list(t),
    "read-only": lambda t: np.broadcast_to(t.numpy(), t.shape),
    "reversed": lambda t: t.numpy()[::-1].copy()[::-1],
    "other byte order": lambda t: t.numpy().astype(">i4"),
    "bool where it can be": lambda t: t > 0 if int(t.max()) == 1 else t,
}
for _name in ("int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"):
    WHOLE[f"torch {_name}"] = functools.partial(Tensor.to, dtype=getattr(torch, _name))
    WHOLE[f"numpy {_name}"] = lambda t, d=_name: t.numpy().astype(d)
for _name in ("uint16", "uint32", "uint64"):
    WHOLE[f"numpy {_name}"] = lambda t, d=_name: t.numpy().astype(d)
WHOLE["torch bfloat16"] = lambda t: t.bfloat16()


@given(st.sampled_from(sorted(WHOLE)), st.sampled_from(sorted(WHOLE)))
@settings(max_examples=60, deadline=None)
def test_labels_of_any_type_are_the_same_labels(of_y, of_bias):
    split = Split(X.tolist(), WHOLE[of_y](Y), WHOLE[of_bias](BIAS))

    assert split.y.dtype == split.bias.dtype == torch.int64
    assert torch.equal(split.y, Y) and torch.equal(split.bias, BIAS)
    assert torch.equal(split.inputs(split.x), X)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (Y.float() + 0.5, "whole numbers >= 0, found 0.5 at sample 0"),
        (torch.where(torch.arange(N) == 7, torch.nan, Y.float()), "found nan at sample 7"),
        (torch.where(torch.arange(N) == 7, torch.inf, Y.float()), "found inf at sample 7"),
        (Y - 1, "found -1 at sample 0"),
        (Y[:-1], r"hold one label a sample, shape \(12,\), found \(11,\)"),
        (Y[:, None], r"found \(12, 1\)"),
        ([str(k) for k in Y.tolist()], "hold numbers, found"),
        ([[0], [1, 2]], "be an array of numbers"),
        (Y.to(torch.complex64), "hold real numbers, found torch.complex64"),
    ],
)
@pytest.mark.parametrize("name", ["y", "bias"])
def test_labels_that_are_none_are_named_with_the_sample(name, labels, said):
    with pytest.raises(ValueError, match=f"^{name} must.*{said}"):
        Split(X, **({"y": Y} | {name: labels}))


@pytest.mark.parametrize("unknown", [-1, 99, float("nan")])
def test_samples_of_unknown_bias_are_in_no_group(unknown):
    bias = torch.where(torch.arange(N) < 4, unknown, BIAS.double())

    if unknown != 99:
        with pytest.raises(ValueError, match=r"bias_unknown=-1"):
            Split(X, Y, bias)
    split = Split(X, Y, bias, bias_unknown=unknown)
    data = BiasedDataset("mine", split, Split(X, Y, BIAS), 3)

    assert split.known.tolist() == [False] * 4 + [True] * 8
    assert data.rho == float((BIAS != Y)[4:].double().mean())
    again = split.take(torch.arange(2, 8))
    assert again.known.tolist() == [False] * 2 + [True] * 4
    assert not split.conflicting[:4].any()


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (Y + 1, r"found \[1, 2, 3\]: map them \(1 -> 0, 2 -> 1, 3 -> 2\)"),
        (Y * 2, r"0 to 2 \(n_classes=3\) without gaps, found \[0, 2, 4\]"),
        (torch.where(Y == 1, 2, Y), r"found \[0, 2\]: map them \(0 -> 0, 2 -> 1\)"),
    ],
)
def test_classes_with_gaps_are_refused_with_the_mapping_to_use(y, said):
    with pytest.raises(ValueError, match=f"of the train split.*{said}"):
        BiasedDataset("mine", Split(X, y), Split(X, Y), 3)


def test_the_test_split_may_lack_a_class_and_not_have_one_more():
    BiasedDataset("mine", Split(X, Y), Split(X, torch.where(Y == 1, 2, Y)), 3)
    with pytest.raises(ValueError, match="of the test split must be 0 to 2"):
        BiasedDataset("mine", Split(X, Y), Split(X, Y + 1), 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": (X, Y)}, "train must be a Split"),
        ({"test": Split(X[:, :3], Y)}, r"samples of the test split have shape \(3,\)"),
        ({"n_classes": 1}, "n_classes must be a whole number >= 2"),
        ({"n_classes": "3"}, "n_classes must be a whole number >= 2"),
    ],
)
def test_a_data_set_of_parts_that_do_not_fit_is_refused(change, said):
    usual = {"name": "mine", "train": Split(X, Y), "test": Split(X, Y), "n_classes": 3}
    with pytest.raises(ValueError, match=said):
        BiasedDataset(**(usual | change))


PIXELS = torch.randint(
    0, 256, (N, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
CONSTANTS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


@pytest.mark.parametrize(
    "given_as",
    [
        lambda x: x / 255,
        lambda x: (x / 255).double(),
        lambda x: (x / 255).numpy(),
        lambda x: x.to(torch.int32).mul(257).to(torch.uint16),
        lambda x: x.numpy().astype(np.uint16) * 257,
        lambda x: x.numpy(),
        lambda x: x.numpy()[:, ::-1][:, ::-1],
    ],
)
def test_images_of_any_type_are_standardised_alike(given_as):
    expected = Split(PIXELS, Y, **CONSTANTS).inputs(PIXELS)
    split = Split(given_as(PIXELS), Y, **CONSTANTS)
    before = split.x.clone()

    found = split.inputs(split.x)
    into = split.inputs(split.x, torch.empty(PIXELS.shape))

    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(found, into)
    assert torch.equal(before, split.x)  # what was given is not written to
    assert abs(float(Split(PIXELS, Y).inputs(PIXELS).mean()) - 0.5) < 0.1


@pytest.mark.parametrize(
    ("x", "change", "said"),
    [
        (PIXELS, {"std": [0.2, 0.2, 0.0]}, r"std of channel 2 must be > 0, found 0\.0"),
        (PIXELS, {"std": [0.2, float("nan"), 1]}, "std of channel 1 must be > 0, found nan"),
        (PIXELS, {"mean": [float("inf"), 0, 0]}, "mean of channel 0 must be finite"),
        (PIXELS, {"std": [0.2, 0.2]}, "std must hold one value for each of 3 channels"),
        (PIXELS, {"std": None}, "mean and std go together"),
        (PIXELS.int(), {}, "the value of white is not known"),
        (PIXELS.to(torch.complex64), {}, "x must hold real numbers"),
        (PIXELS[:, 0, 0, 0], {}, r"x must be N x d or N x C x H x W, found shape \(12,\)"),
    ],
)
def test_inputs_that_would_spoil_every_network_are_named(x, change, said):
    with pytest.raises(ValueError, match=said):
        Split(x, Y, **(CONSTANTS | change))


@given(st.integers(0, N - 1), st.integers(0, 3), st.sampled_from([np.nan, np.inf, -np.inf]))
@settings(max_examples=20, deadline=None)
def test_a_value_that_is_not_finite_is_named_with_its_sample(sample, place, value):
    x = X.clone()
    x[sample, place] = value
    with pytest.raises(ValueError, match=rf"in 1 of 12 samples, the first is sample {sample}:"):
        Split(x, Y)


def test_large_values_whose_sum_overflows_are_finite():
    Split(torch.full((N, 4), 3e38), Y)


@pytest.mark.parametrize(
    ("mask", "said"),
    [(np.full((1, 4), 2), "truth values, or 0 and 1"), (np.ones((1, 5)), r"broadcastable to x")],
)
def test_masks_that_do_not_fit_are_refused(mask, said):
    assert Split(X, Y, core_mask=[[1, 0, 1, 0]]).core_mask.dtype == torch.bool
    with pytest.raises(ValueError, match=said):
        Split(X, Y, core_mask=mask)


def test_arrays_and_lists_train_as_tensors_do():
    losses = []
    for x, y, bias in (
        (X, Y, BIAS),
        (X.numpy(), Y.numpy(), BIAS.tolist()),
        (X.tolist(), Y.tolist(), BIAS),
    ):
        split = Split(x, y, bias)
        data = BiasedDataset("mine", split, split, 3)
        (run,) = lrsc.fit("fcn", data, lrsc.TrainConfig(max_steps=3, batch_size=6), progress=False)
        losses.append(run.curves["loss"])
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])


IMAGES = torch.arange(N * 48).reshape(N, 3, 4, 4) % 256
WRONG = {
    "masked x": (np.ma.masked_array(X.numpy(), X.numpy() > 0.9), {}, "masked values"),
    "masked labels": (X, {"y": np.ma.masked_array(Y.numpy(), Y.numpy() == 2)}, "masked values"),
    "masked bias": (X, {"bias": np.ma.masked_array(BIAS.numpy(), BIAS.numpy() == 1)}, "masked"),
    "long double": (X.numpy().astype(np.longdouble), {}, "x must hold numbers"),
    "sparse": (X.to_sparse(), {}, r"x must hold real numbers.*sparse_coo\): make it dense"),
    "beyond float32": (X.double() * 1e200, {}, "beyond single precision"),
    "std that overflows": (IMAGES.byte(), {"mean": [0.0] * 3, "std": [0.2, 1e-40, 0.2]}, "std of "),
    "mean of 0..255": (
        IMAGES.byte(), {"mean": [125.0, 123, 114], "std": [63.0, 62, 67]},
        "mean of channel 0 must be in units of 0..1, where 255 is 1",
    ),
    "std of 0..65535": (
        IMAGES.to(torch.uint16), {"mean": [0.5] * 3, "std": [0.2, 9000.0, 0.2]},
        "std of channel 1 must be in units of 0..1, where 65535 is 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_would_be_read_as_something_else_is_refused(what):
    x, more, said = WRONG[what]
    with pytest.raises(ValueError, match=said):
        Split(x, **{"y": Y, "bias": BIAS} | more)


def test_nothing_masked_and_floats_of_any_scale_are_taken():
    masked = np.ma.masked_array(X.numpy(), np.zeros(X.shape, bool))
    assert torch.equal(Split(masked, Y).x, X)
    split = Split(IMAGES.float(), Y, mean=[125.0] * 3, std=[60.0] * 3)
    assert split.inputs(split.x).abs().max() < 3
    assert Split(X.double() * 1e30, Y).inputs(X.double() * 1e30).isfinite().all()


SCALES = {
    "as they are": {"x": IMAGES.float()},
    "of 0..255": {"x": IMAGES.byte()},
    "standardised": {"x": IMAGES.byte(), "mean": [0.5] * 3, "std": [0.2] * 3},
    "floats standardised": {"x": IMAGES.float(), "mean": [99.0] * 3, "std": [50.0] * 3},
}


@pytest.mark.parametrize("of_train", SCALES)
@pytest.mark.parametrize("of_test", SCALES)
@pytest.mark.parametrize("part", ["test", "val"])
def test_splits_on_different_scales_are_refused(of_train, of_test, part):
    one, other = (Split(y=Y, **SCALES[name]) for name in (of_train, of_test))
    parts = {"train": one, "test": one, part: other}
    if of_train == of_test:
        assert getattr(BiasedDataset("own", n_classes=3, **parts), part) is other
        return
    with pytest.raises(ValueError, match=f"samples of the {part} split are .*different scales"):
        BiasedDataset("own", n_classes=3, **parts)


def test_bias_labels_that_are_ids_are_refused():
    for factor in (10**9, 10**6, 1000):
        ids = Split(X, Y, BIAS * factor)
        with pytest.raises(
            ValueError, match=r"bias of the train split goes up to \d+ in 24 samples"
        ):
            BiasedDataset("own", ids, ids, 3)
    gaps = Split(X, Y, BIAS * 50)
    assert BiasedDataset("own", gaps, gaps, 3).train is gaps
