"""Reading one picture from disk into RGB, or saying exactly why that cannot be done.

Where a picture is plain (RGB, grey, palette, CMYK) the result equals the published InternVL and
LLaVA preprocessing, `Image.open(file).convert("RGB")`. Three cases go beyond it, because there
`convert` loses what a viewer shows: a camera's EXIF orientation is applied, transparency is laid
over white instead of dropped, and 16-bit grey is scaled to 8 bits instead of clipped.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from d2export.errors import ImageError

# Raster formats Pillow decodes by itself; EPS, for one, would start Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MIN_SIDE = 2
MAX_ASPECT = 200


def load_image(path: Path | str) -> Image.Image:
    """The picture in a file, upright, in mode RGB; of several frames or pages the first.

    Raises:
        ImageError: the file is missing, a folder, unreadable, not an image or damaged; it has more
            pixels than Pillow's `Image.MAX_IMAGE_PIXELS`; a side is shorter than 2 pixels; one
            side is more than 200 times the other; its samples have no fixed range (mode F, and
            32-bit integers).
    """
    path = Path(path)
    with _open(path) as image:
        _check_size(path, *image.size)
        try:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
        except Exception as error:  # damaged data trips decoders into errors of any kind
            raise ImageError(
                f"{path} is damaged or incomplete: its {image.format} data cannot be decoded"
                f" ({error})",
                "Copy or download the file again.",
            ) from error
        return _to_rgb(path, image)


def _open(path: Path) -> Image.Image:
    """The file's header, read and recognised; the pixels are not decoded yet."""
    try:
        with warnings.catch_warnings():  # Pillow only warns up to twice its limit
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(path, formats=FORMATS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"{path} does not exist", "Check the path of the image.") from error
    except IsADirectoryError as error:
        raise ImageError(
            f"{path} is a folder, expected an image file", "Name one file in it."
        ) from error
    except PermissionError as error:
        raise ImageError(f"{path} may not be read", "Check its permissions.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        found = re.search(r"\d+", str(error))
        raise ImageError(
            f"{path} has {found[0] if found else 'too many'} pixels,"
            f" expected at most {Image.MAX_IMAGE_PIXELS}",
            "Scale the picture down first.",
        ) from error
    except UnidentifiedImageError as error:
        size = path.stat().st_size
        what = "is empty" if size == 0 else f"({size} bytes) is not an image, or its header is cut"
        raise ImageError(
            f"{path} {what}, expected one of {', '.join(FORMATS)}", "Save it as PNG or JPEG."
        ) from error
    except Exception as error:  # damaged data trips decoders into errors of any kind
        raise ImageError(
            f"{path} has a damaged header ({error})", "Copy or download the file again."
        ) from error


def _check_size(path: Path, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{path} is {width}x{height} pixels, expected at least {MIN_SIDE}x{MIN_SIDE}",
            "Use a larger picture.",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"{path} is {width}x{height} pixels, expected sides of at most {MAX_ASPECT}:1",
            "Crop the picture: squeezed into square tiles nothing in it could be recognised.",
        )


def _to_rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()  # the opened file is about to be closed
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGB", over.size, (255, 255, 255))
        white.paste(over, mask=over.getchannel("A"))
        return white
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # The high byte is also what Pillow keeps of 16-bit colour.
        high = (np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)
        return Image.fromarray(high).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{path} has samples of mode '{image.mode}', which have no fixed range,"
            " expected 8 or 16 bits",
            "Scale it to 8 bits and save it as PNG.",
        )
    return image.convert("RGB")
