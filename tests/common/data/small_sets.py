"""Arguments of every data set for small files, which are written first, or for small numbers."""

import numpy as np

from common.data.driving.export import write_bdd100k, write_kitti
from common.data.driving.scene import DrivingScene
from tests.common.data.flow_files import write_flying_chairs, write_kitti_flow, write_sintel
from tests.common.data.mixed_images import write_mixed
from tests.common.data.small_files import (
    noise,
    sea,
    taxi,
    write_bair,
    write_chairs,
    write_cifar,
    write_folder,
    write_human,
    write_kth,
    write_mnist,
    write_npy,
    write_sea,
    write_srvp,
    write_taxi,
    write_ucf101,
)

FRAMES = {"n_frames": 4, "n_eval_frames": 5}


def in_memory(**arguments):
    return lambda folder: arguments


def simulated(folder):
    return {"n_train": 8, "n_val": 3, "n_test": 3, **FRAMES}


def driving(folder):
    return {**simulated(folder), "size": (16, 24)}


def homographies(folder):
    return {**driving(folder), "most": 4.0}


def sintel(folder):
    scenes = [f"scene_{k}" for k in range(6)]
    return {**_flow(write_sintel(folder, scenes)), "test_fraction": 0.2, "val_fraction": 0.2}


def flying_chairs(folder):
    return {**_flow(write_flying_chairs(folder, 2 * "1121211121")), "val_fraction": 0.3}


def kitti_flow(folder):
    return {**_flow(write_kitti_flow(folder)), "test_fraction": 0.25, "val_fraction": 0.3}


def _flow(root):
    return {"root": str(root), "size": (16, 20)}


def _drives(count):
    return [DrivingScene(k, size=(16, 24)) for k in range(count)], [float(k) for k in range(6)]


def bdd100k(folder):
    write_bdd100k(folder, "train", *_drives(11))
    write_bdd100k(folder, "val", *_drives(3))
    return _labelled(folder)


def kitti(folder):
    write_kitti(folder, *_drives(14))
    return {**_labelled(folder), "test_sequences": ("0011", "0012", "0013")}


def _labelled(folder):
    settings = {"size": (16, 24), "val_fraction": 3 / 11, "clips_per_video": 1}
    return {"root": str(folder), **settings, **FRAMES}


def embedded_clips(folder):
    return {"size": 16, "clips_per_epoch": 8, "eval_clips": 3, **FRAMES}


def mnist(folder):
    write_mnist(folder, noise(12, 28, 28), noise(3, 28, 28, seed=1))
    return {"root": str(folder), "val_fraction": 0.25}


def cifar(folder):
    write_cifar(folder, noise(15, 3072), noise(3, 3072, seed=1))
    return {"root": str(folder), "val_fraction": 0.2}


def image_folder(folder):
    for split, count in (("train", 8), ("val", 3), ("test", 3)):
        write_mixed(folder / split, count)
    return {"root": str(folder), "size": 12}


def video_folder(folder):
    for split, count in (("train", 8), ("val", 3), ("test", 3)):
        for k in range(count):
            frames = noise(9, 20, 24, 3, seed=k)
            write_folder(folder / split / f"v{k}", list(frames))
    return {"root": str(folder), "size": 16, "clips_per_video": 1, **FRAMES}


def kth(folder):
    write_kth(folder, (3, 4, 22), lambda name: 6 + int(name[-1]), actions=("boxing",))
    return {"root": str(folder), "persons": "predrnn", "clips_per_video": 1, **FRAMES}


def bair(folder):
    write_bair(folder, {"train": noise(8, 30, 64, 64, 3), "test": noise(3, 30, 64, 64, 3, seed=1)})
    return {"root": str(folder), "val_fraction": 0.25, **FRAMES}


def human36m(folder):
    length = lambda subject: 30 + 3 * subject
    write_human(folder, (1, 5, 6, 7, 8, 9, 11), "ab", length, np.savez)
    return {"root": str(folder), "every": 4, "clips_per_video": 1, **FRAMES}


def ucf101(folder):
    videos = lambda groups: {
        f"v_Dive_g{g:02}_c{c:02}": noise(6 + c, 18, 24, 3, seed=10 * g + c)
        for g in groups
        for c in (1, 2)
    }
    write_ucf101(folder / "data", videos(range(8, 13)), videos((1, 2)))
    return {
        "root": str(folder / "data"),
        "cache": str(folder / "cache"),
        "crop": "random",
        "val_fraction": 0.2,
        **FRAMES,
    }


def moving_mnist_file(folder):
    return {"path": str(write_npy(folder / "a.npy", noise(6, 5, 64, 64))), "n_frames": 4}


def srvp_test_set(folder):
    return {"path": str(write_srvp(folder / "a.npz", noise(6, 5, 64, 64))), "n_frames": 4}


def waves(folder):
    few = {"n_sequences": 10, "val_fraction": 0.25, "clips_per_video": 1}
    return {"cache": str(folder), **few, **FRAMES}


def sea_surface(folder):
    for zone in (1, 2, 3):
        write_sea(folder, sea(40, zone, land=zone == 3), zone)
    zones = {"train_zones": [1, 2, 3], "test_zones": [2, 3], "val_fraction": 0.4}
    return {"root": str(folder), "clips_per_video": 2, **zones, **FRAMES}


def synthetic_sea(folder):
    few = {"days": 50, "n_zones": 2, "val_fraction": 0.4, "clips_per_video": 4}
    return {"cache": str(folder), **few, **FRAMES}


def taxi_bj(folder):
    return {"root": str(write_taxi(folder, taxi((2, 1, 2, 30)))), "val_fraction": 0.4, **FRAMES}


def chairs(folder):
    write_chairs(folder, "abcdefg")
    return {"root": str(folder), "clips_per_video": 2, "val_fraction": 0.3, **FRAMES}
