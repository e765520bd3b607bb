"""Decoding image files, listing them, streaming them from threads, the memory-mapped cache."""

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision import transforms

from lrsc.datasets import images
from lrsc.datasets.images import Images, decode
from lrsc.datasets.raw import decoding, files
from lrsc.datasets.raw.files import listed
from lrsc.errors import DataMissing

RNG = np.random.default_rng(0)
CORNERS = ((200, 30, 30), (30, 180, 40), (40, 60, 210), (230, 220, 40))


def noise(width, height, cells=8):
    """A smooth colour picture."""
    small = RNG.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def quarters(width=60, height=60):
    """Four flat colours, row by row."""
    colours = np.array(CORNERS, np.uint8).reshape(2, 2, 3)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)


def corners(pixels):
    """The colours in the middle of the four quarters of 3 x S x S, row by row."""
    side = pixels.shape[-1]
    at = (side // 4, side - 1 - side // 4)
    return np.array([pixels[:, r, c] for r in at for c in at]).astype(int)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def resized_then_cropped(image, size, short):
    """The plain way, torchvision's: the whole image is resized, then cropped."""
    image = transforms.CenterCrop(size)(transforms.Resize(short)(image))
    return np.asarray(image).transpose(2, 0, 1).astype(int)


@pytest.fixture
def folder(tmp_path):
    """Twenty PNG files 000.png ... 019.png, written in another order."""
    place = tmp_path / "set"
    place.mkdir()
    for i in RNG.permutation(20):
        noise(20 + int(i), 24).save(place / f"{i:03d}.png")
    return place


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LRSC_CACHE", str(tmp_path / "cache"))


# decoding


@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (64, 64), (300, 61), (31, 29)])
@pytest.mark.parametrize(("size", "short"), [(56, 64), (64, 64), (33, 41)])
def test_short_side_is_resized_and_the_centre_cropped(shape, size, short):
    image = noise(*shape)
    found = decode(encoded(image), size, short)
    assert found.dtype == np.uint8 and found.shape == (3, size, size)
    # one step: each pass of the resize rounds
    assert np.abs(found - resized_then_cropped(image, size, short)).max() <= 1


@settings(max_examples=150, deadline=None)
@given(width=st.integers(1, 150), height=st.integers(1, 150), size=st.integers(1, 40),
       more=st.integers(0, 20))  # fmt: skip
def test_crops_lie_where_torchvisions_lie(width, height, size, more):
    image = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), "u1"))
    found = decode(encoded(image), size, size + more)
    assert np.abs(found - resized_then_cropped(image, size, size + more)).max() <= 2


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("shape", [(1603, 1201), (901, 2000), (1999, 1501), (641, 427)])
def test_a_jpeg_that_is_decoded_at_a_fraction_is_cropped_at_the_same_place(shape, orientation):
    width, height = shape  # a slope: one pixel to the side is one step of brightness
    ramp = np.zeros((height, width, 3))
    ramp[..., 0] = np.linspace(0, 255, width)
    ramp[..., 1] = np.linspace(0, 255, height)[:, None]
    image = Image.fromarray(ramp.round().astype(np.uint8))
    exif = Image.Exif()
    exif[decoding.EXIF_ORIENTATION] = orientation
    data = encoded(image, "JPEG", quality=98, subsampling=0, exif=exif)
    whole = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    off = decode(data, 224, 256).astype(float) - resized_then_cropped(whole, 224, 256)
    assert np.abs(off.mean((1, 2))).max() < 0.5  # of a pixel: blocks at the edge are cut


def test_the_usual_short_side_is_256_for_224():
    image = noise(90, 70)
    assert np.array_equal(decode(encoded(image), 224), decode(encoded(image), 224, 256))
    assert np.array_equal(decode(encoded(image), 56), decode(encoded(image), 56, 64))


def test_a_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same():
    data = encoded(noise(1600, 1200), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as whole:
        expected = resized_then_cropped(whole, 56, 64)
    found = decode(data, 56, 64)
    assert np.abs(found - expected).mean() < 2
    with Image.open(io.BytesIO(data)) as whole:
        assert not np.array_equal(found, decode(encoded(whole), 56, 64))  # a PNG of all its pixels


def test_path_and_content_give_the_same(tmp_path):
    path = tmp_path / "a.png"
    noise(40, 50).save(path)
    assert np.array_equal(decode(path, 28), decode(path.read_bytes(), 28))
    assert np.array_equal(decode(str(path), 28), decode(path, 28))


def palette(transparent):
    image = quarters().quantize(4)
    if transparent == "index":
        image.info["transparency"] = image.getpixel((5, 5))
    elif transparent == "bytes":
        alpha = [255] * 4
        alpha[image.getpixel((5, 5))] = 0
        image.info["transparency"] = bytes(alpha)
    return image


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (quarters(), "PNG"), (quarters(), "JPEG"), (quarters().convert("CMYK"), "JPEG"),
        (quarters().convert("CMYK"), "TIFF"), (quarters().convert("RGBA"), "PNG"),
        (palette(""), "PNG"), (palette(""), "GIF"), (quarters().convert("YCbCr"), "JPEG"),
    ],
)  # fmt: skip
def test_colours_of_every_form(image, kind):
    found = corners(decode(encoded(image, kind), 60, 60))
    assert np.abs(found - CORNERS).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_becomes_three_equal_channels(kind):
    grey = quarters().convert("L")
    found = corners(decode(encoded(grey, kind), 60, 60))
    expected = corners(np.asarray(grey)[None])
    assert np.abs(found - expected).max() <= 3


def test_black_and_white_and_grey_with_alpha():
    bits = quarters().convert("L").point(lambda v: 255 * (v > 100)).convert("1")
    assert set(np.unique(decode(encoded(bits), 60, 60))) == {0, 255}
    grey = quarters().convert("LA")
    assert np.abs(corners(decode(encoded(grey), 60, 60))[:, 0] - corners(np.asarray(
        quarters().convert("L"))[None])[:, 0]).max() == 0  # fmt: skip


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.array([[0, 20_000], [60_000, 65_535]], np.uint16).repeat(30, 0).repeat(30, 1)
    found = corners(decode(encoded(Image.fromarray(values)), 60, 60))
    assert found.tolist() == [[round(v / 257)] * 3 for v in (0, 20_000, 60_000, 65_535)]


@pytest.mark.parametrize("how", ["index", "bytes", "RGBA", "tRNS"])
def test_transparent_pixels_lie_on_white(how):
    if how == "RGBA":
        alpha = np.full((60, 60), 255, np.uint8)
        alpha[:30, :30] = 0
        image = quarters().convert("RGBA")
        image.putalpha(Image.fromarray(alpha))
        data = encoded(image)
    elif how == "tRNS":
        data = encoded(quarters(), transparency=CORNERS[0])
    else:
        data = encoded(palette(how))
    found = corners(decode(data, 60, 60))
    assert found[0].tolist() == [255, 255, 255]
    assert np.abs(found[1:] - np.array(CORNERS)[1:]).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotation_in_exif_is_applied(orientation):
    stored = {  # how the upright picture has to be stored for this tag
        1: (), 2: ("FLIP_LEFT_RIGHT",), 3: ("ROTATE_180",), 4: ("FLIP_TOP_BOTTOM",),
        5: ("TRANSPOSE",), 6: ("ROTATE_90",), 7: ("TRANSVERSE",), 8: ("ROTATE_270",),
    }[orientation]  # fmt: skip
    image = quarters(90, 60)
    for step in stored:
        image = image.transpose(Image.Transpose[step])
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(image, exif=exif), 60, 60)
    assert np.abs(found - resized_then_cropped(quarters(90, 60), 60, 60)).max() <= 1


def test_damaged_exif_warns_nobody():
    exif = Image.Exif()
    exif[0x010F] = "a camera with a long name"
    data = encoded(quarters(), "JPEG", exif=exif.tobytes()[:-20])
    code = f"""
import runpy, sys
decode = runpy.run_path({decoding.__file__!r})["decode"]
sys.stdout.buffer.write(decode(sys.stdin.buffer.read(), 60, 60).tobytes())
"""
    command = [sys.executable, "-W", "always", "-c", code]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    pixels = np.frombuffer(done.stdout, np.uint8).reshape(3, 60, 60)
    assert np.abs(corners(pixels) - CORNERS).max() <= 6 and b"EXIF" not in done.stderr


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("fault", ["cut in half", "cut short", "empty", "text"])
def test_an_unreadable_image_is_named_with_the_cause(tmp_path, kind, fault):
    data = encoded(noise(200, 100), kind)
    path = tmp_path / "bad.img"
    path.write_bytes({
        "cut in half": data[: len(data) // 2], "cut short": data[:-40], "empty": b"",
        "text": b"<html>not found</html>",
    }[fault])  # fmt: skip
    with pytest.raises(ValueError, match=r"bad\.img cannot be read as an image: .+ Fetch it again"):
        decode(path, 28)


def test_whatever_bytes_are_wrong_the_error_is_a_ValueError():
    data = encoded(noise(60, 40), "PNG")
    for at in RNG.integers(0, len(data), 60):
        damaged = bytearray(data)
        damaged[at] ^= 1 << RNG.integers(8)
        try:
            assert decode(bytes(damaged), 28, name="x").shape == (3, 28, 28)
        except ValueError as error:
            assert str(error).startswith("x cannot be read")  # noqa: PT017 (or it decodes)


def test_absent_file_and_impossible_sizes(tmp_path):
    with pytest.raises(ValueError, match=r"none\.png cannot be read"):
        decode(tmp_path / "none.png", 28)
    for size, short in ((0, 10), (20, 10)):
        with pytest.raises(ValueError, match=rf"size must be .* short = 10\].*found {size}"):
            decode(encoded(quarters()), size, short)


# listing


def test_the_list_is_sorted_whatever_the_file_system_gives(folder, monkeypatch):
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_bytes(b"")
    (folder / "inner").mkdir()
    noise(9, 9).save(folder / "inner" / "z.PNG")
    names = [f"{i:03d}.png".encode() for i in range(20)]
    assert listed(folder).names.tolist() == names
    scandir, seen = os.scandir, []

    class Shuffled:
        def __init__(self, place):
            with scandir(place) as entries:
                self.entries = sorted(entries, key=lambda e: e.name, reverse=len(seen) % 2 == 0)
            seen.append([e.name for e in self.entries])

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(os, "scandir", Shuffled)
    one, two = listed(folder), listed(folder)
    assert seen[0] == seen[1][::-1]
    assert one.names.tolist() == two.names.tolist() == names
    deep = listed(folder, depth=2)
    assert deep.names.tolist() == [*names, b"inner/z.PNG"]
    assert deep.n_bytes[-1] == (folder / "inner" / "z.PNG").stat().st_size


def packed(folder, form):
    if form == "folder":
        return folder
    path = folder.with_name(f"{form}.{form[:3]}")
    paths = sorted(folder.iterdir(), reverse=True)
    how = zipfile.ZIP_DEFLATED if form == "zip deflated" else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("__MACOSX/set/000.png", b"a Mac adds this")
        archive.writestr("set/._000.png", b"and this")
        archive.writestr("set/", b"")
        for file in paths:
            archive.write(file, f"set/{file.name}")
    return path


@pytest.mark.parametrize("form", ["zip deflated", "zip stored"])
def test_an_archive_is_read_in_place_and_equals_its_folder(folder, form):
    plain = listed(folder)
    found = listed(packed(folder, form), inside="set/")
    assert found.names.tolist() == plain.names.tolist()
    assert found.n_bytes.tolist() == plain.n_bytes.tolist()
    assert files.checksum([b"list"], [found]) == files.checksum([b"list"], [plain])
    expected = Images(plain, 16)[:]
    shutil.rmtree(folder)
    assert torch.equal(Images(found, 16)[:], expected)
    rows = [torch.tensor([3, 1]), torch.tensor([19])]
    parts = list(Images(found, 16).batches(rows, workers=1))
    assert torch.equal(torch.cat(parts), expected[[3, 1, 19]])


def test_the_checksum_sees_lists_names_and_sizes(folder):
    first = files.checksum([b"ab", b"c"], [listed(folder)])
    assert files.checksum([b"a", b"bc"], [listed(folder)]) != first
    order = listed(folder).take(np.arange(20)[::-1])
    assert files.checksum([b"ab", b"c"], [order]) == first
    (folder / "003.png").rename(folder / "0035.png")
    renamed = files.checksum([b"ab", b"c"], [listed(folder)])
    with (folder / "004.png").open("ab") as file:
        file.write(b"x")
    assert len({first, renamed, files.checksum([b"ab", b"c"], [listed(folder)])}) == 3


def test_select_names_what_is_listed_and_absent(folder):
    found = listed(folder)
    names = np.array([b"007.png", b"002.png", b"019.png", b"000.png"])
    assert found.select(names, "list.txt").names.tolist() == names.tolist()
    with pytest.raises(DataMissing, match=r"2 of 3 images that list\.txt lists .*: 020.png, 0.pn"):
        found.select(np.array([b"020.png", b"001.png", b"0.pn"]), "list.txt")
    with pytest.raises(DataMissing, match=r"1 of 1"):
        listed(folder / "..").select(np.array([b"001.png"]), "list.txt")


@pytest.mark.parametrize("fault", ["truncated zip", "text", "bzip2 member"])
def test_a_damaged_archive_is_named(folder, fault):
    path = packed(folder, "zip stored")
    if fault == "truncated zip":
        path.write_bytes(path.read_bytes()[:-100])
    elif fault == "text":
        path.write_bytes(b"not an archive")
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
            archive.write(folder / "000.png", "set/000.png")
    with pytest.raises(ValueError, match=rf"{path.name} cannot be listed: .+"):
        listed(path, inside="set/")


@pytest.mark.parametrize("form", ["zip deflated", "zip stored"])
@pytest.mark.parametrize("fault", ["content", "header", "end"])
def test_a_damaged_member_is_named(folder, form, fault):
    path = packed(folder, form)
    found = listed(path, inside="set/")
    offset = int(found.at[4, 0])
    data = bytearray(path.read_bytes())
    if fault == "end":
        data = data[: offset + 60]
    else:
        data[offset + (70 if fault == "content" else 1)] ^= 255
    path.write_bytes(data)
    cause = {
        "content": "CRC-32|while decompressing", "header": "no such member", "end": "archive ends",
    }[fault]  # fmt: skip
    with pytest.raises(ValueError, match=rf"zip/004\.png cannot be read: .*({cause}).* Fetch it"):
        Images(found, 16)[4]


# reading and streaming


def test_every_index_reads_what_decode_gives(folder):
    x = Images(listed(folder), 14, 16)
    expected = torch.stack([
        torch.from_numpy(decode(folder / f"{i:03d}.png", 14, 16)) for i in range(20)
    ])  # fmt: skip
    assert len(x) == 20 and x.shape == expected.shape and x.dtype == torch.uint8
    assert torch.equal(x[:], expected)
    assert torch.equal(x[-1], expected[-1]) and x[3].shape == (3, 14, 14)
    assert torch.equal(x[4:9:2], expected[4:9:2])
    index = torch.tensor([5, 5, 0])
    assert torch.equal(x[index], expected[index])
    assert torch.equal(x[torch.arange(20) > 16], expected[17:])
    assert x[torch.tensor([], dtype=torch.long)].shape == (0, 3, 14, 14)
    subset = x.take(torch.tensor([9, 2, 7])).take(slice(1, None))
    assert len(subset) == 2 and torch.equal(subset[:], expected[[2, 7]])
    assert torch.equal(torch.stack(list(subset)), expected[[2, 7]])  # ends with an IndexError
    with pytest.raises(IndexError):
        x[20]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_the_order_asked_whatever_their_sizes(folder, workers):
    x = Images(listed(folder), 12)
    sizes = (1, 8, 0, 37, 16, 3, 9)
    indices = [torch.randint(0, 20, (n,)) for n in sizes]
    # 48 images ahead at most: the batch of 37 does not fit at once
    found = list(x.take(torch.arange(20)).batches(iter(indices), workers, ahead=24))
    assert [len(batch) for batch in found] == list(sizes)
    whole = x[:]
    for batch, index in zip(found, indices, strict=True):
        assert torch.equal(batch, whole[index])


def test_batches_of_a_tensor_and_of_images_are_the_same_call(folder):
    x = Images(listed(folder), 12)
    indices = [torch.tensor([3, 4]), torch.tensor([0])]
    for found in (images.batches(x, indices, workers=1), images.batches(x[:], indices)):
        assert torch.equal(torch.cat(list(found)), x[torch.tensor([3, 4, 0])])


def test_only_so_much_is_asked_for_ahead(folder):
    asked = []

    def indices():
        for i in range(100):
            asked.append(i)
            yield torch.arange(8)

    batches = Images(listed(folder), 12).batches(indices(), workers=1, ahead=32)
    next(batches)
    assert len(asked) == 5  # 32 / 8 ahead, and the one handed out
    next(batches)
    assert len(asked) == 6
    batches.close()


def test_an_unreadable_image_is_named_when_its_batch_is_due(folder):
    (folder / "011.png").write_bytes(b"broken")
    x = Images(listed(folder), 12)
    batches = x.batches(torch.arange(20).split(5), workers=2)
    assert torch.equal(next(batches), x[:5]) and torch.equal(next(batches), x[5:10])
    with pytest.raises(ValueError, match=r"set/011\.png cannot be read as an image"):
        next(batches)
    (folder / "012.png").unlink()
    with pytest.raises(ValueError, match=r"set/012\.png cannot be read: .*No such file"):
        list(x.batches([torch.tensor([12])], workers=1))


@pytest.mark.parametrize("how", ["used up", "left", "failed"])
def test_no_thread_is_left(folder, how):
    if how == "failed":
        (folder / "000.png").write_bytes(b"")
    before = threading.active_count()
    batches = Images(listed(folder), 12).batches(torch.arange(20).repeat(20).split(4), workers=2)
    if how == "failed":
        with pytest.raises(ValueError, match=r"000\.png"):
            next(batches)
    elif how == "left":
        next(batches)
        assert threading.active_count() == before + 2
        batches.close()
    else:
        assert sum(len(batch) for batch in batches) == 400
    assert threading.active_count() == before


def test_ctrl_c_ends_it_with_nothing_left(folder):
    before = threading.active_count()

    def indices():
        yield from torch.arange(20).repeat(5).split(4)
        signal.raise_signal(signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(Images(listed(folder), 12).batches(indices(), workers=2))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert threading.active_count() == before


SCRIPT = """
import sys, torch
from pathlib import Path
from lrsc.datasets.raw.files import listed
from lrsc.datasets.images import Images
print("script runs")
x = Images(listed(Path(sys.argv[1])), 12)
plain = Images.batches
def counted(*args, **options):
    Path(sys.argv[1], "count.txt").open("a").write("decoded ")
    return plain(*args, **options)
Images.batches = counted
print(int(x.cached("both", workers=2).sum()))
"""


def test_from_a_script_without_a_main_guard_twice_at_once(folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    expected = int(Images(listed(folder), 12)[:].sum())
    both = [
        subprocess.Popen([sys.executable, script, folder], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        out, _ = process.communicate(timeout=1200)
        assert process.returncode == 0 and out.split("\n") == ["script runs", str(expected), ""]
    assert (folder / "count.txt").read_text() == "decoded "  # one built, the other waited
    assert [p.name for p in (tmp_path / "cache").iterdir() if p.is_dir()] == ["both"]


def test_the_cache_is_a_memory_map_made_once(folder, tmp_path, monkeypatch):
    x = Images(listed(folder), 12)
    expected = x[:]
    cached = x.cached("small", workers=2)
    assert cached.dtype == torch.uint8 and torch.equal(cached, expected)
    path = tmp_path / "cache" / "small" / "images.npy"
    assert path.stat().st_size == expected.numel() + 128  # NumPy's header
    shutil.rmtree(folder)
    again = x.cached("small")
    assert torch.equal(again, expected)
    mapped = Images(again)
    assert mapped.shape == x.shape and torch.equal(
        mapped.take(torch.tensor([4, 2]))[:], expected[[4, 2]]
    )
    parts = list(mapped.batches(torch.arange(20).split(7)))
    assert torch.equal(torch.cat(parts), expected)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(path) in maps.read_text()


def test_a_damaged_image_leaves_no_cache(folder, tmp_path):
    (folder / "019.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"019\.png"):
        Images(listed(folder), 12).cached("broken", workers=2)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_memory_is_bounded_whatever_the_number_of_images(folder):
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("resident memory is read from /proc")

    def resident():
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    x = Images(listed(folder), 224)
    order = torch.arange(20).repeat(40)  # 800 images, 120 MB
    before, most = resident(), 0.0
    for _ in x.batches(order.split(16), workers=2, ahead=64):
        most = max(most, resident() - before)
    assert most < 64 * 0.151 + 40  # 64 images ahead, a few batches, what Pillow loads


def test_wrong_use_is_named(folder):
    x = Images(listed(folder), 12)
    x.cached("mine", workers=0)
    with pytest.raises(
        ValueError, match=r"'mine' holds images of shape \(20, 3, 12, 12\), expected \(5,"
    ):
        x.take(slice(5)).cached("mine")
    with pytest.raises(ValueError, match="workers must be a whole number >= 0, found -1"):
        next(x.batches([torch.arange(2)], workers=-1))
    with pytest.raises(IndexError):
        list(x.batches([torch.tensor([20])], workers=1))


def test_on_a_device_only_the_batches_move(folder):
    x = Images(listed(folder), 12).to("meta")
    assert x.device.type == "meta" and x[:3].device.type == "meta"
    assert x.take(torch.arange(4)).device.type == "meta"
    assert all(b.device.type == "meta" for b in x.batches([torch.arange(4)], workers=0))


# suffixes


SUFFIXES = [".JPEG", ".jpg", ".webp", ".bmp", ".tif", ".TIFF", ".gif", ".ppm", ".png", ".tga"]
OTHERS = ["Thumbs.db", "a.txt", "list.csv", "no suffix", "x.h5"]


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(suffixes=st.lists(st.sampled_from(SUFFIXES), min_size=1, max_size=5),
       others=st.lists(st.sampled_from(OTHERS), max_size=3, unique=True))  # fmt: skip
def test_images_of_all_suffixes_are_listed_and_others_counted(
    suffixes, others, tmp_path_factory, caplog
):
    place = tmp_path_factory.mktemp("set")
    (place / "class").mkdir()
    for i, suffix in enumerate(suffixes):
        quarters(30, 30).save(place / "class" / f"{i}{suffix}")
    for name in others:
        (place / "class" / name).write_bytes(b"1")
    (place / "class" / ".DS_Store").write_bytes(b"1")
    (place / "metadata.csv").write_bytes(b"1")  # beside the classes: no sample
    caplog.clear()
    with caplog.at_level("WARNING"):
        found = listed(place, depth=2)
    assert len(found) == len(suffixes)
    for x in Images(found, 16)[:].numpy():
        assert np.abs(corners(x) - CORNERS).max() <= 20
    said = [record.getMessage() for record in caplog.records]
    if others:
        (text,) = said
        assert text.startswith(f"{len(others)} files in") and f"class/{min(others)}" in text
    else:
        assert not said


@pytest.mark.parametrize("mode", ["F", "I"])
@pytest.mark.parametrize("top", [1, 255, 65535])
def test_pixels_whose_white_is_not_known_are_refused(tmp_path, mode, top):
    values = np.linspace(0, top, 900).reshape(30, 30).astype("float32" if mode == "F" else "int32")
    Image.fromarray(values, mode).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=f"a.tiff cannot be read.*mode '{mode}'.*8 or 16 bits"):
        decode(tmp_path / "a.tiff", 30, 30)
