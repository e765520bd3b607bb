"""Moon-star: exact counts, places, shapes, masks, options."""

import numpy as np
import pytest
import torch

from lrsc.datasets import load


@pytest.fixture(scope="module")
def moon_star():
    return load("moon_star")


def counts(split):
    return torch.bincount(split.y * 2 + split.bias, minlength=4).view(2, 2).tolist()


def places(split):
    """Whether each shape is in the lower, and in the right half; every pixel must agree."""
    mask = split.core_mask[:, 0]
    rows, columns = mask.any(2), mask.any(1)
    upper, left = rows[:, :32].any(1), columns[:, :32].any(1)
    assert not (upper & rows[:, 32:].any(1)).any()
    assert not (left & columns[:, 32:].any(1)).any()
    return ~upper, ~left


@pytest.mark.parametrize(("rho", "conflicting"), [(0.0, 0), (0.1, 100), (0.5, 500), (1.0, 1000)])
def test_conflicting_counts_are_exact(rho, conflicting):
    train = load("moon_star", rho=rho, n_train=2000).train
    assert counts(train) == [[1000 - conflicting, conflicting], [conflicting, 1000 - conflicting]]


def test_sizes_and_unbiased_test_set(moon_star):
    assert moon_star.train.x.shape == moon_star.test.x.shape == (10_000, 1, 64, 64)
    assert counts(moon_star.train) == [[4500, 500], [500, 4500]]
    assert counts(moon_star.test) == [[2500, 2500], [2500, 2500]]
    assert moon_star.rho == 0.1 and moon_star.source_id == "generated"


@pytest.mark.parametrize("options", [{}, {"vary_size": 0.5, "vary_angle": True}, {"radius": 16.0}])
def test_the_bias_is_the_diagonal_and_the_shape_is_inside_its_quadrant(options):
    test = load("moon_star", n_train=2, **options).test
    lower, right = places(test)
    upper_right_or_lower_left = lower != right
    assert torch.equal(upper_right_or_lower_left.long(), test.bias)
    quadrants = torch.bincount(lower.long() * 2 + right.long(), minlength=4)
    assert int(quadrants.min()) > 2000


def test_the_mask_is_the_shapes_pixels(moon_star):
    assert torch.equal(moon_star.train.core_mask, moon_star.train.x > 0)
    assert moon_star.train.spurious_mask is None


def test_shapes_are_the_same_but_for_their_place(moon_star):
    x = moon_star.train.x
    for kind in (0, 1):
        light = x[moon_star.train.y == kind].long().sum((1, 2, 3))
        assert len(light.unique()) == 1
        place = x[moon_star.train.y == kind][:200].flatten(1).float().argmax(1)
        assert len(place.unique()) > 100


def test_a_star_has_five_points_and_a_moon_is_a_disc_without_a_disc():
    from lrsc.datasets.moon_star import _moon, _star

    angles = np.arange(0, 360) * np.pi / 180
    u, v = 0.9 * np.sin(angles), -0.9 * np.cos(angles)
    inside = _star(u, v)
    assert inside[0] and int((np.diff(inside.astype(int)) == 1).sum()) == 5
    assert _star(np.zeros(1), np.zeros(1)).all() and not _star(u * 1.2, v * 1.2).any()
    fine = (np.arange(400) + 0.5) / 200 - 1
    share = _star(fine[None], fine[:, None]).mean() * 4
    assert share == pytest.approx(1.1226, abs=0.01)  # area of the regular pentagram, R = 1
    big, small, d = 1, 0.75, 0.45  # what is left of a disc without its lens with the other
    lens = big**2 * np.arccos((d**2 + big**2 - small**2) / (2 * d * big))
    lens += small**2 * np.arccos((d**2 + small**2 - big**2) / (2 * d * small))
    sides = (big + small - d) * (d + small - big) * (d - small + big) * (d + big + small)
    lens -= 0.5 * np.sqrt(sides)
    assert _moon(fine[None], fine[:, None]).mean() * 4 == pytest.approx(np.pi - lens, abs=0.01)


def test_options_change_size_and_angle():
    fixed = load("moon_star", n_train=50).train
    varied = load("moon_star", n_train=50, vary_size=0.5, vary_angle=True).train
    light = varied.x.long().sum((1, 2, 3)).float()
    assert len(light.unique()) > 40
    for kind in (0, 1):
        full = fixed.x[fixed.y == kind].long().sum((1, 2, 3)).float().mean()
        part = light[varied.y == kind] / full
        assert 0.2 < float(part.min()) < 0.5 and 0.8 < float(part.max()) < 1.1


def test_same_seed_same_bytes(moon_star):
    again, other = load("moon_star"), load("moon_star", seed=1)
    assert torch.equal(moon_star.train.x, again.train.x)
    assert torch.equal(moon_star.test.x, again.test.x)
    assert not torch.equal(moon_star.train.x, other.train.x)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"radius": 17}, "radius must be in"), ({"vary_size": 1}, "vary_size must be a share"),
     ({"vary_sise": 1}, "did you mean|vary_size")],
)  # fmt: skip
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        load("moon_star", **options)
