"""Image files of every mode that Pillow writes, whole and broken."""

import numpy as np
from PIL import Image

from tests.common.data.small_files import noise

TURNED = Image.Exif()
TURNED[0x112] = 6  # EXIF orientation: lies on its left side


def deep(image):
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


# Ending of the file's name, conversion of the picture, options of its file.
KINDS = {
    "colour": (".jpg", lambda x: x, {}),
    "grey": (".png", lambda x: x.convert("L"), {}),
    "transparent": (".png", lambda x: x.convert("RGBA"), {}),
    "grey and transparent": (".png", lambda x: x.convert("LA"), {}),
    "cmyk": (".jpg", lambda x: x.convert("CMYK"), {}),
    "palette": (".png", lambda x: x.quantize(16), {}),
    "one bit": (".png", lambda x: x.convert("1"), {}),
    "sixteen bits": (".png", deep, {}),
    "animated": (
        ".gif",
        lambda x: x,
        {"save_all": True, "append_images": [Image.new("L", (9, 9))]},
    ),
    "turned": (".JPEG", lambda x: x, {"exif": TURNED}),
    "webp": (".webp", lambda x: x, {}),
    "tiff": (".tif", lambda x: x.convert("CMYK"), {}),
}


def write_mixed(root, count, broken=0):
    """Writes `count` images of all kinds, sizes and folders, the last `broken` ones damaged.

    Returns the names of the whole ones, sorted.
    """
    draw = np.random.default_rng(0)
    names = []
    for k in range(count):
        kind, (ending, convert, options) = list(KINDS.items())[k % len(KINDS)]
        width, height = draw.integers(5, 90, 2)
        image = Image.fromarray(noise(6, 6, 3, seed=k)).resize((width, height))
        path = root / f"album {k % 3}" / f"{k:03} {kind}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        convert(image).save(path, **options)
        if k >= count - broken:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2] if k % 2 else b"no image")
        else:
            names.append(path.relative_to(root).as_posix())
    return sorted(names)
