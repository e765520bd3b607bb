"""The ten corruptions, each against a slow reference that goes through one image at a time."""

import colorsys
import hashlib
import heapq
import io
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from lrsc.datasets.corruptions import NAMES, corrupt, fields, liquid

# The tables of make_cifar_c.py; elastic's in shares of the side, spatter's last number in words.
PUBLISHED = {
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9), (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, "water"), (0.65, 0.1, 0.8, 0.7, 0.5, "water"),
        (0.65, 0.3, 1, 0.69, 0.5, "water"), (0.65, 0.1, 0.7, 0.69, 0.6, "mud"),
        (0.65, 0.1, 0.5, 0.68, 0.6, "mud"),
    ),
    "elastic": (
        (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03),
    ),
    "jpeg": (80, 65, 58, 50, 40),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
}  # fmt: skip
RANDOM = ("snow", "frost", "fog", "spatter", "elastic")
SEED = 3


def pictures(n, height=32, width=32, seed=0):
    """Noise of four scales, and in the first: black, white, grey, pure colours."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.full((n, 3, height, width), 128.0)
    for cells, strength in ((4, 60), (8, 25), (16, 12), (32, 6)):
        noise = strength * torch.randn(n, 3, cells, cells, generator=generator)
        x += torch.nn.functional.interpolate(noise, size=(height, width), mode="bilinear")
    x = x.clamp(0, 255).to(torch.uint8)
    x[0, :, :2], x[0, :, 2:4], x[0, :, 4:6] = 0, 255, 97
    x[0, :, 6:8] = torch.tensor([255, 0, 0])[:, None, None]
    x[0, :, 8:10] = torch.tensor([20, 200, 200])[:, None, None]
    return x


def compare(name, severity, reference):
    """corrupt against reference(image H x W x 3, parameters, *random fields of the image)."""
    images = pictures(3)
    found = corrupt(images, name, severity, seed=SEED).permute(0, 2, 3, 1).numpy()
    drawn = [f.numpy() for f in fields.random_fields(name, 32, 32, SEED, 0)]
    parameters = PUBLISHED[name][severity - 1]
    for i, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        expected = reference(image, parameters, *(field[i] for field in drawn))
        # truncated, but 127.99999999 counts as 128
        expected = np.clip(expected + 1e-6, 0, 255).astype(np.uint8)
        difference = np.abs(found[i].astype(int) - expected)
        assert difference.max() <= 1 and difference.mean() < 0.005


def in_hsv(image, change):
    out = np.empty(image.shape)
    for place in np.ndindex(image.shape[:2]):
        hue, saturation, value = change(*colorsys.rgb_to_hsv(*(image[place] / 255)))
        value, saturation = min(max(value, 0), 1), min(max(saturation, 0), 1)
        out[place] = colorsys.hsv_to_rgb(hue, saturation, value)
    return out * 255


def contrast(image, factor):
    out = np.empty(image.shape)
    for c in range(3):
        mean = sum(int(v) for v in image[..., c].flat) / image[..., c].size
        for place in np.ndindex(image.shape[:2]):
            out[(*place, c)] = (image[(*place, c)] - mean) * factor + mean
    return out


def plasma(noise, decay):
    """Diamond-square, point by point, on a torus."""
    side = step = len(noise)
    height, roughness = np.zeros(noise.shape), 100.0
    while step > 1:
        half = step // 2
        corners = list(itertools.product(range(0, side, step), repeat=2))

        def set_mean(y, x, around, roughness=roughness):
            values = [height[(y + down) % side, (x + right) % side] for down, right in around]
            height[y, x] = sum(values) / 4 + roughness**2 * noise[y, x]

        for y, x in corners:
            set_mean(y + half, x + half, itertools.product((-half, half), repeat=2))
        for y, x in corners:
            sides = ((-half, 0), (half, 0), (0, -half), (0, half))
            set_mean(y, x + half, sides)
            set_mean(y + half, x, sides)
        step, roughness = half, roughness / decay
    height -= height.min()
    return height / height.max()


def fog(image, parameters, noise):
    strength, decay = parameters
    x = image / 255
    haze = plasma(2 * noise - 1, decay)[..., None]
    return 255 * (x + strength * haze) * x.max() / (x.max() + strength)


def frost(image, parameters, crop):
    return parameters[0] * image + parameters[1] * 255 * crop.transpose(1, 2, 0)


def motion_blur(layer, radius, sigma, degrees):
    steps = range(2 * radius + 1)
    taps = np.exp([-(i**2) / (2 * sigma**2) for i in steps])
    down, right = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    offsets = [(math.ceil(i * down - 0.5), math.ceil(i * right - 0.5)) for i in steps]
    last, out = np.array(layer.shape) - 1, np.zeros(layer.shape)
    for place in np.ndindex(layer.shape):
        rows, columns = np.clip(np.add(place, offsets), 0, last).T
        out[place] = layer[rows, columns] @ taps / taps.sum()
    return out


def snow(image, parameters, noise, turn):
    mean, deviation, zoom, threshold, radius, sigma, kept = parameters
    flakes, side = noise * deviation + mean, len(noise)
    crop = math.ceil(side / zoom)
    top = (side - crop) // 2
    flakes = ndimage.zoom(flakes[top : top + crop, top : top + crop], zoom, order=1)
    top = (len(flakes) - side) // 2
    flakes = flakes[top : top + side, top : top + side]
    flakes = np.floor(255 * np.clip(np.where(flakes < threshold, 0, flakes), 0, 1))
    flakes = np.round(motion_blur(flakes, radius, sigma, 90 * turn - 135))[..., None]
    x = image / 255
    white = np.maximum(x, 1.5 * (x @ [0.299, 0.587, 0.114])[..., None] + 0.5)
    return 255 * (kept * x + (1 - kept) * white) + flakes + np.rot90(flakes, 2)


def mud(image, parameters, noise):
    mean, deviation, sigma, threshold, last, _ = parameters
    liquid = ndimage.gaussian_filter(noise * deviation + mean, sigma, mode="nearest")
    cover = ndimage.gaussian_filter((liquid > threshold) * 1.0, last, mode="nearest")[..., None]
    cover[cover < 0.8] = 0
    return image * (1 - cover) + cover * [63, 42, 20]


def canny(levels, low, high):
    """Edges by following: thinned gradients above high, and those above low connected to them."""
    side = range(len(levels))
    inside = lambda y, x: y in side and x in side  # noqa: E731
    gx = ndimage.sobel(levels, 1, mode="nearest")
    gy = ndimage.sobel(levels, 0, mode="nearest")
    size = np.abs(gx) + np.abs(gy)
    strength = lambda y, x: size[y, x] if inside(y, x) else 0  # noqa: E731
    thin = {}
    for y, x in itertools.product(side, side):
        angle = math.degrees(math.atan2(abs(gy[y, x]), abs(gx[y, x])))
        if angle < 22.5 or angle > 67.5:
            down, right = (0, 1) if angle < 22.5 else (1, 0)
            peak = size[y, x] >= strength(y + down, x + right)
        else:
            down, right = (1, -1) if gx[y, x] * gy[y, x] < 0 else (1, 1)
            peak = size[y, x] > strength(y + down, x + right)
        if size[y, x] > low and peak and size[y, x] > strength(y - down, x - right):
            thin[y, x] = size[y, x] > high
    edges, todo = np.zeros(levels.shape, bool), [place for place, strong in thin.items() if strong]
    while todo:
        y, x = todo.pop()
        if (y, x) in thin and not edges[y, x]:
            edges[y, x] = True
            todo += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return edges


def edge_distance(edges, limit):
    """Shortest paths of side, corner and knight's steps from the edges (Dijkstra)."""
    lengths = {1: 1.0, 2: 91750 / 65536, 5: 143976 / 65536}
    out = np.full(edges.shape, float(limit))
    out[edges] = 0
    queue = [(0.0, *place) for place in np.argwhere(edges).tolist()]
    while queue:
        far, y, x = heapq.heappop(queue)
        for j, i in itertools.product(range(-2, 3), repeat=2):
            there, length = (y + j, x + i), lengths.get(i * i + j * j)
            if length and min(there) >= 0 and max(there) < len(out) and far + length < out[there]:
                out[there] = far + length
                heapq.heappush(queue, (far + length, *there))
    return out


def equalise(levels):
    values, counts = np.unique(levels, return_counts=True)
    if len(values) == 1:
        return levels
    below = np.cumsum(counts) - counts[0]
    new = dict(zip(values.tolist(), np.round(255 * below / below[-1]).tolist(), strict=True))
    return np.vectorize(new.get)(levels)


def test_equalise_equals_a_slow_reference_and_keeps_a_plain_image():
    levels = torch.randint(3, 21, (4, 9, 9), generator=torch.Generator().manual_seed(0))
    levels[0] = 7
    for found, image in zip(liquid.equalise(levels), levels, strict=True):
        assert np.array_equal(found.numpy(), equalise(image.numpy()))


def water(image, parameters, noise):
    mean, deviation, sigma, threshold, strength, _ = parameters
    liquid = ndimage.gaussian_filter(noise * deviation + mean, sigma, mode="nearest")
    liquid = np.minimum(np.floor(255 * np.where(liquid < threshold, 0, liquid)), 255)
    film = edge_distance(canny(liquid, 50, 150), 20)
    box = lambda a: ndimage.correlate(a, np.ones((3, 3)) / 9, mode="mirror")  # noqa: E731
    film = equalise(np.floor(box(film) + 1e-6)).astype(float)
    film = ndimage.correlate(film, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]), mode="mirror")
    film = liquid * np.floor(box(np.clip(film, 0, 255)) + 0.5)
    film *= strength / max(film.max(), 1e-9)
    return image + film[..., None] * [175, 238, 238]


def elastic(image, parameters, corners, shifts):
    amplitude, sigma, spread = (32 * p for p in parameters)
    source = np.array([[26, 26], [26, 6], [6, 6]])
    target = source + spread * (2 * corners - 1)
    matrix = np.linalg.solve(np.c_[target, np.ones(3)], source)  # where a pixel comes from
    y, x = np.mgrid[:32, :32]
    from_x, from_y = np.moveaxis(np.stack([x, y, np.ones_like(x)], -1) @ matrix, -1, 0)
    shift_x, shift_y = (
        amplitude * ndimage.gaussian_filter(2 * s - 1, sigma, mode="reflect", truncate=3)
        for s in shifts
    )
    out = np.empty(image.shape)
    for c in range(3):
        moved = ndimage.map_coordinates(
            image[..., c].astype(float), [from_y, from_x], order=1, mode="mirror"
        )
        out[..., c] = ndimage.map_coordinates(
            moved, [y + shift_y, x + shift_x], order=1, mode="reflect"
        )
    return out


REFERENCES = {
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": lambda image, c: in_hsv(image, lambda h, s, v: (h, s, v + c)),
    "contrast": contrast,
    "spatter": lambda image, c, noise: (mud if c[-1] == "mud" else water)(image, c, noise),
    "elastic": elastic,
    "saturate": lambda image, c: in_hsv(image, lambda h, s, v: (h, s * c[0] + c[1], v)),
}


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", REFERENCES)
def test_equals_a_slow_reference_of_one_image(name, severity):
    compare(name, severity, REFERENCES[name])


def through_pil(images, change):
    out = [change(Image.fromarray(image)) for image in images.permute(0, 2, 3, 1).numpy()]
    return torch.from_numpy(np.stack([np.asarray(o) for o in out])).permute(0, 3, 1, 2)


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (37, 50)])
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_jpeg_is_close_to_pil(severity, size):
    def code(image):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=PUBLISHED["jpeg"][severity - 1])
        return Image.open(file)

    images = pictures(40, *size)
    found, expected = corrupt(images, "jpeg", severity).int(), through_pil(images, code).int()
    lost = float((expected - images.int()).abs().float().mean())
    # all but the coefficients that lie halfway between two levels, up to rounding, agree
    difference = (found - expected).abs().float()
    assert float(difference.mean()) < 0.3 < lost
    assert float((difference > 1).float().mean()) < 0.1


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (37, 50)])
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_pixelate_is_pil_to_the_byte(severity, size):
    kept = PUBLISHED["pixelate"][severity - 1]
    height, width = size

    def resize(image):
        small = image.resize((int(width * kept), int(height * kept)), Image.Resampling.BOX)
        return small.resize((width, height), Image.Resampling.BOX)

    images = pictures(5, *size)
    assert torch.equal(corrupt(images, "pixelate", severity), through_pil(images, resize))


@pytest.mark.parametrize(
    ("name", "severities"),
    [
        *((name, (1, 2, 3, 4, 5)) for name in ("snow", "fog", "brightness", "contrast")),
        *((name, (1, 2, 3, 4, 5)) for name in ("jpeg", "pixelate")),
        *(("spatter", s) for s in ((1, 2, 3), (4, 5))),  # water, mud
        *(("saturate", s) for s in ((1, 2), (3, 4, 5))),  # paler, stronger
    ],
)
def test_a_higher_severity_changes_more(name, severities):
    images = pictures(64)
    changes = [float((corrupt(images, name, s).float() - images).abs().mean()) for s in severities]
    assert changes[0] > 0.3
    assert all(a < b for a, b in itertools.pairwise(changes)), changes


@pytest.mark.parametrize("name", NAMES)
def test_every_image_has_its_own_noise(name):
    n = fields.part_size(32, 32) + 40  # more than one part
    out = corrupt(pictures(2)[1:].expand(n, -1, -1, -1), name).flatten(1)
    assert len(torch.unique(out, dim=0)) == (n if name in RANDOM else 1)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_depends_on_its_place_and_on_no_other_image(name):
    part = fields.part_size(32, 32)
    images = pictures(part + 40)
    whole = corrupt(images, name, seed=SEED)
    for n in (1, 7, part, part + 1):
        assert torch.equal(corrupt(images[:n], name, seed=SEED), whole[:n])
    images[3] = 0
    other = corrupt(images, name, seed=SEED)
    assert (other != whole).flatten(1).any(1).nonzero().flatten().tolist() == [3]
    shifted = corrupt(images[1:], name, seed=SEED)
    assert torch.equal(shifted, other[1:]) == (name not in RANDOM)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_and_global_generators_are_left_alone(name):
    images, state = pictures(20), torch.get_rng_state()
    before, one, two = images.clone(), corrupt(images, name, seed=1), corrupt(images, name, seed=1)
    assert torch.equal(one, two) and torch.equal(images, before)
    assert torch.equal(one, corrupt(images, name, seed=2)) == (name not in RANDOM)
    assert torch.equal(torch.get_rng_state(), state)


def digest():
    images = pictures(10)
    corrupted = torch.cat([corrupt(images, name, seed=SEED) for name in NAMES])
    return hashlib.sha256(corrupted.numpy().tobytes()).hexdigest()


def test_another_process_gives_the_same_bytes():
    code = f"import runpy; print(runpy.run_path({__file__!r})['digest']())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest()


def test_random_fields_have_the_distributions_they_claim():
    normals = [fields.random_fields(name, 32, 32, 0, 0)[0] for name in ("snow", "spatter")]
    assert not torch.equal(*normals)
    for normal in normals:
        assert abs(float(normal.mean())) < 0.02 and abs(float(normal.std()) - 1) < 0.02
    for name, field in (("snow", 1), ("fog", 0), ("elastic", 0), ("elastic", 1)):
        uniform = fields.random_fields(name, 32, 32, 0, 0)[field]
        assert 0 <= float(uniform.min()) < 0.05 and 0.95 < float(uniform.max()) <= 1
        assert abs(float(uniform.mean()) - 0.5) < 0.1
    assert all(fields.random_fields(name, 32, 32, 0, 0) == [] for name in set(NAMES) - {*RANDOM})


def test_frost_is_bluish_ice_and_dark_glass_from_all_textures():
    textures = fields.frost_textures(0, 256)
    assert textures.shape == (5, 3, 256, 256)
    assert 0 <= float(textures.min()) < 0.3 and 0.9 < float(textures.max()) <= 1
    for texture in textures:
        assert 0.35 < float(texture.mean()) < 0.65 and float(texture.std()) > 0.12
        assert bool((texture[2] >= texture[0]).all())  # blue at least as strong as red
    (crops,) = fields.random_fields("frost", 32, 32, 0, 0)
    rows = textures[:, 0].unfold(2, 8, 1)  # every run of eight pixels
    found = torch.stack([(rows == c[0, 0, :8]).all(-1).any(-1).any(-1) for c in crops])
    assert bool(found.any(1).all())
    sure = found[found.sum(1) == 1]  # all but plain dark runs, which are in several
    assert len(sure) > 40 and bool(sure.any(0).all())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("severity", [1, 3, 4])
@pytest.mark.parametrize("size", [(8, 8), (9, 33), (70, 40)])
def test_other_sizes_and_plain_images(name, severity, size):
    for level in (0, 255):
        images = torch.full((2, 3, *size), level, dtype=torch.uint8)
        out = corrupt(images, name, severity)
        assert out.dtype == torch.uint8 and out.shape == images.shape
        if name in ("contrast", "elastic", "jpeg", "pixelate"):
            assert torch.equal(out, images)
        if name == "fog":
            assert torch.equal(out, images) == (level == 0)  # nothing brighter than the brightest


def test_no_images_give_no_images():
    assert corrupt(torch.empty(0, 3, 32, 32, dtype=torch.uint8), "snow").shape == (0, 3, 32, 32)


@pytest.mark.parametrize("layout", ["channels last", "every other"])
def test_memory_layout_does_not_matter(layout):
    images = pictures(8)
    strided = images.to(memory_format=torch.channels_last)
    if layout == "every other":
        images, strided = images[::2].clone(), images[::2]
    out = corrupt(strided, "elastic")
    assert torch.equal(out, corrupt(images, "elastic")) and out.is_contiguous()


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="compares CUDA with the CPU: this machine has no GPU"
)
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_gives_the_same_up_to_rounding(name):
    images = pictures(100)
    found, expected = corrupt(images.cuda(), name), corrupt(images, name)
    assert found.is_cuda
    assert float((found.cpu() != expected).float().mean()) < 1e-3


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(ValueError, match="unknown corruption 'snwo'. Did you mean 'snow'"):
        corrupt(pictures(1), "snwo")


@pytest.mark.parametrize("severity", [0, 6, 2.0, True, "4", None])
def test_a_severity_outside_1_to_5_is_refused(severity):
    with pytest.raises(ValueError, match="severity .* 1 to 5, found"):
        corrupt(pictures(1), "fog", severity)


@pytest.mark.parametrize("seed", [-1, 0.5, True, None])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ValueError, match="seed .* at least 0, found"):
        corrupt(pictures(1), "fog", seed=seed)


def test_a_large_seed_is_one():
    assert not torch.equal(*(corrupt(pictures(1), "fog", seed=s) for s in (2**70, 2**70 + 1)))


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (torch.zeros(2, 3, 32, 32), "torch.float32 of shape (2, 3, 32, 32)"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), "torch.uint8 of shape (2, 1, 32, 32)"),
        (torch.zeros(2, 32, 32, dtype=torch.uint8), "torch.uint8 of shape (2, 32, 32)"),
        (torch.zeros(3, 32, 32, 3, dtype=torch.uint8), "torch.uint8 of shape (3, 32, 32, 3)"),
        (torch.zeros(2, 3, 7, 32, dtype=torch.uint8), "torch.uint8 of shape (2, 3, 7, 32)"),
        (np.zeros((2, 3, 32, 32), np.uint8), "ndarray"),
    ],
)
def test_images_of_another_kind_are_refused(images, found):
    with pytest.raises(ValueError, match="uint8 tensor of N x 3 x H x W") as error:
        corrupt(images, "fog")
    assert f"found {found}" in str(error.value)
