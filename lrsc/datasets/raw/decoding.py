"""Image files -> square uint8 images."""

import io
import os
import warnings

import numpy as np

EXIF_ORIENTATION = 0x0112
# Damaged EXIF, as in ImageNet, and palettes warn. Once for all: threads share the filters.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(TiffImagePlugin|Image)$")


def shorter_side(size: int) -> int:
    """Pixels to which the shorter side is resized before a crop of `size`: size * 256 / 224."""
    return round(size * 256 / 224)


def decode(
    file: str | os.PathLike | bytes, size: int, short: int | None = None, name: str | None = None,
    channels: int = 3,
) -> np.ndarray:  # fmt: skip
    """An image file (path or content) -> 3 x size x size uint8, RGB; or 1 x size x size grey.

    The shorter side is resized to `short` pixels (size * 256 / 224 unless given; bilinear, with
    antialiasing) and the centre cropped, at the pixels of torchvision's Resize and CenterCrop. A
    rotation in EXIF is applied; grey, CMYK and palette images and those of 16 bits become RGB,
    transparent pixels lie on white. Raises ValueError naming the file (`name`, else the path) and
    the cause if it cannot be read, and for pixels of which the value of white is not known: floats
    and whole numbers of 32 bits.
    """
    from PIL import Image, ImageOps

    short = shorter_side(size) if short is None else short
    if not 1 <= size <= short:
        raise ValueError(f"size must be in [1, short = {short}] pixels, found {size}")
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            sides = image.size
            image.draft(None, (short, short))  # a JPEG is decoded at 1/2, 1/4, 1/8 if enough
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
            if orientation != 1:
                ImageOps.exif_transpose(image, in_place=True)
                sides = sides[::-1] if orientation in (5, 6, 7, 8) else sides
            colour = _rgb(image)
            return _square(colour if channels == 3 else colour.convert("L"), sides, size, short)
    except Exception as error:  # a damaged file fails in whatever way Pillow's parsers do
        shown = name or ("an image" if isinstance(file, bytes) else os.fspath(file))
        raise unreadable(shown, error) from error


def unreadable(name: str, error: Exception) -> ValueError:
    """The error for a damaged image file."""
    return ValueError(
        f"{name} cannot be read as an image: {error or type(error).__name__}. "
        "Fetch it again or take it out of the set."
    )


def _square(image, sides: tuple[int, int], size: int, short: int) -> np.ndarray:
    """sides: width and height in the file, of which the image may be a fraction."""
    from PIL import Image

    wide, high = (side * short // min(sides) for side in sides)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    x, y = image.width / wide, image.height / high
    # the box of the crop in the file's own pixels: what is cropped away is not resized
    box = (left * x, top * y, (left + size) * x, (top + size) * y)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box))
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))


def _rgb(image):
    from PIL import Image

    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    # Pillow reads 16 bits of some formats into 32
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ValueError(
            f"its pixels are of mode {image.mode!r}, of which the value of white is not known: "
            "save it as 8 or 16 bits"
        )
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        grey = np.clip(np.round(np.asarray(image, np.float32) / 257), 0, 255)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
