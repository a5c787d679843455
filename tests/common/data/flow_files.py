"""Small files in the layouts of the sets of optical flow.

The colour of a pixel is its column, its row, and the number of its picture; its flow tells column
and row too.
"""

import numpy as np
import torch
from PIL import Image

from common.data.formats.flow import write_flow

SIZE = (20, 28)


def places(size=SIZE):
    rows, columns = np.indices(size)
    return columns, rows


def motion(size=SIZE):
    """Motion that grows by 1/8 pixel from pixel to pixel; KITTI's format holds it exactly."""
    columns, rows = places(size)
    return torch.tensor(np.stack([columns / 8 - 2, rows / 8 - 1])).float()


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_picture(path, number, size=SIZE):
    columns, rows = places(size)
    save(path, np.stack([columns, rows, np.full(size, number)], 2).astype(np.uint8))


def save_flow(path, valid=None, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_flow(path, motion(size), valid)


def write_sintel(root, scenes=("alley", "bamboo", "cave", "market"), frames=4, masks=True):
    """Occluded in column 9, and invalid in row 7."""
    columns, rows = places()
    training = root / "training"
    for number, scene in enumerate(scenes):
        for k in range(1, frames + 1):
            name = f"{scene}/frame_{k:04}.png"
            save_picture(training / "clean" / name, 10 * number + k)
            save_picture(training / "final" / name, 100 + 10 * number + k)
            if k == frames:
                continue
            save_flow(training / "flow" / scene / f"frame_{k:04}.flo")
            if masks:
                save(training / "occlusions" / name, (255 * (columns == 9)).astype(np.uint8))
                save(training / "invalid" / name, (255 * (rows == 7)).astype(np.uint8))
    return root


def write_flying_chairs(root, split="1121211121"):
    for k in range(1, len(split) + 1):
        for picture in (1, 2):
            save_picture(root / "data" / f"{k:05}_img{picture}.ppm", 10 * k + picture)
        save_flow(root / "data" / f"{k:05}_flow.flo")
    (root / "FlyingChairs_train_val.txt").write_text("\r\n".join(split) + "\r\n")
    return root


def write_kitti_flow(root, count=12, unoccluded=True):
    """Known where column and row have an even sum; seen in both pictures left of column 15."""
    columns, rows = (torch.tensor(axis) for axis in places())
    known, training = (columns + rows) % 2 == 0, root / "training"
    for k in range(count):
        for picture in (10, 11):
            save_picture(training / "image_2" / f"{k:06}_{picture}.png", 10 * k + picture)
        save_flow(training / "flow_occ" / f"{k:06}_10.png", known)
        if unoccluded:
            save_flow(training / "flow_noc" / f"{k:06}_10.png", known & (columns < 15))
    return root
