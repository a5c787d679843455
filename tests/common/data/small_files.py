"""Small files in the formats of the downloaded sets."""

import datetime
import gzip
import pickle
import struct

import av
import h5py
import netCDF4
import numpy as np
from PIL import Image

from common.data.videos.kth import CLASSES


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# Images -------------------------------------------------------------------------------------


def classes(n):
    """The class of image k is 7 k mod 10."""
    return [7 * k % 10 for k in range(n)]


def idx(array, magic):
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


def idx_images(pixels):
    return idx(pixels, 2051)


def idx_labels(labels, magic=2049):
    return idx(np.array(labels, np.uint8), magic)


def write_mnist(folder, train, test, zipped=False):
    """Images `[n 28 28]` with their classes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in (("train", train), ("t10k", test)):
        parts = {
            "images-idx3-ubyte": idx_images(pixels),
            "labels-idx1-ubyte": idx_labels(classes(len(pixels))),
        }
        for part, data in parts.items():
            path = folder / f"{name}-{part}{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(data) if zipped else data)
    return folder


def write_cifar(folder, train, test):
    """Images `[n 3072]` with their classes."""
    folder.mkdir(parents=True, exist_ok=True)
    labels, size = classes(len(train)), len(train) // 5
    for i in range(5):
        part = slice(size * i, size * (i + 1))
        batch = {b"data": train[part].copy(), b"labels": labels[part]}
        (folder / f"data_batch_{i + 1}").write_bytes(pickle.dumps(batch))
    batch = {b"data": test.copy(), b"labels": classes(len(test))}
    (folder / "test_batch").write_bytes(pickle.dumps(batch))
    return folder


# Videos -------------------------------------------------------------------------------------


def write_folder(folder, frames, name="img{}.png", first=1):
    """One video as a folder of numbered frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, frame in enumerate(frames, first):
        Image.fromarray(frame).save(folder / name.format(k))
    return folder


def write_avi(path, frames):
    """A file without loss, of frames `[h w 3]`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def write_ucf101(root, train, test, fold=1):
    """Videos by name `v_Action_gXX_cYY`, each in the folder of its action, and the lists."""
    for name, videos in (("train", train), ("test", test)):
        lines = []
        for video, frames in videos.items():
            action = video.split("_")[1]
            write_avi(root / "UCF-101" / action / f"{video}.avi", frames)
            lines.append(f"{action}/{video}.avi" + (" 1" if name == "train" else ""))
        path = root / "ucfTrainTestlist" / f"{name}list{fold:02}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\r\n".join(lines) + "\r\n")
    return root


def write_npy(path, pixels):
    np.save(path, pixels)
    return path


def write_srvp(path, pixels, **more):
    """Videos `[t n 64 64]` with latents that count up."""
    latents = np.arange(pixels.shape[0] * pixels.shape[1] * 8.0)
    latents = latents.reshape(*pixels.shape[:2], 2, 4)
    np.savez_compressed(path, sequences=pixels, latents=latents, labels=np.zeros(1), **more)
    return path


def kth_names(persons, actions=CLASSES):
    return [(c, f"person{p:02}_{c}_d{d}") for p in persons for c in actions for d in (1, 2, 3, 4)]


def write_kth(root, persons, length, folder="processed_64", actions=CLASSES):
    """Frame k of a video shows k, brighter with the person."""
    for action, name in kth_names(persons, actions):
        place = root / folder / action / name
        place.mkdir(parents=True)
        for k in range(length(name)):
            grey = int(name[6:8]) * 8 + k
            # Three channels, as ffmpeg wrote them.
            Image.new("RGB", (64, 64), (grey,) * 3).save(place / f"image-{k + 1:03}.png")
    return root


def write_human(root, subjects, actions, length, save=np.savez):
    """Frame k of a subject's video shows 10 subject + k; returns the videos `[t 64 64 3]`."""
    root.mkdir(exist_ok=True)
    videos = {}
    for subject in subjects:
        for action in actions:
            name = f"S{subject}-{action}.5413"
            shades = (subject * 10 + np.arange(length(subject))).astype(np.uint8)
            videos[name] = shades[:, None, None, None] * np.ones((64, 64, 3), np.uint8)
            save(root / name, image=videos[name], filename=action, subject=subject)
    return videos


def write_chairs(root, models, views=62, name="image_{:03}_p020_t{:03}_r096.png", side=64):
    """View k of a model shows its number in red and k in green; returns the models' numbers."""
    for number, model in enumerate(models):
        folder = root / "rendered_chairs" / model / "renders"
        folder.mkdir(parents=True, exist_ok=True)
        for k in range(views):
            colour = (10 * number, 4 * k, 7)
            Image.new("RGB", (side, side), colour).save(folder / name.format(k, 5 * k))
    (root / "rendered_chairs" / "all_chair_names.mat").write_bytes(b"")
    return {model: number for number, model in enumerate(models)}


# Records ------------------------------------------------------------------------------------


def slow_crc32c(data):
    """Bit by bit; CRC-32C of '123456789' is 0xE3069283."""
    crc = 0xFFFFFFFF
    for bit in (byte >> k & 1 for byte in data for k in range(8)):
        crc = crc >> 1 ^ (0x82F63B78 if (crc ^ bit) & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = slow_crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


def varint(n):
    return bytes([n]) if n < 128 else bytes([n % 128 + 128]) + varint(n // 128)


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(features):
    entries = []
    for name, value in features.items():
        if isinstance(value, bytes):
            kind = field(1, field(1, value))
        else:  # packed floats
            kind = field(2, field(1, struct.pack(f"<{len(value)}f", *value)))
        entries.append(field(1, field(1, name.encode()) + field(2, kind)))
    return field(1, b"".join(entries))


def record(content):
    head = struct.pack("<Q", len(content))
    # Whether the checksum of the content is right doesn't matter, and the slow one takes seconds.
    return head + masked(head) + content + b"\0\0\0\0"


def robot(pixels, other):
    """An example as BAIR's, of frames `[30 64 64 3]` of each camera."""
    features = {}
    for t in reversed(range(len(pixels))):
        features[f"{t}/action"] = [0.5, -1.0, 2.0, 0.0]
        features[f"{t}/image_main/encoded"] = other[t].tobytes()
        features[f"{t}/image_aux1/encoded"] = pixels[t].tobytes()
        features[f"{t}/endeffector_pos"] = [0.1, 0.2, 0.3]
    return record(example(features))


def write_bair(root, pixels):
    """Videos `[n 30 64 64 3]` of each split in two files; the other camera shows the negatives."""
    for split, videos in pixels.items():
        folder = root / "softmotion30_44k" / split
        folder.mkdir(parents=True)
        for k, some in enumerate(np.array_split(videos, 2)):
            content = b"".join(robot(video, 255 - video) for video in some)
            (folder / f"traj_{k}.tfrecords").write_bytes(content)
    return root


# Fields -------------------------------------------------------------------------------------


def sea(days, zone=1, land=False):
    """Variables of a zone: temperature near 18 °C, with its climatology."""
    rng = np.random.default_rng(zone)
    found = {"daily_mean": rng.uniform(15, 20, days), "daily_std": rng.uniform(1, 3, days)}
    noise = rng.normal(size=(days, 64, 64))
    found["thetao"] = np.ma.array(18 + np.cumsum(noise, 2) / 4, mask=False)
    if land:
        found["thetao"][:, :20, 40:] = np.ma.masked
    return found


def write_sea(folder, variables, zone=1, packed=False):
    """One zone's netCDF file; packed ones hold 16-bit integers, as ocean products do."""
    path = folder / f"data_{zone}.nc"
    with netCDF4.Dataset(path, "w") as file:
        for name, values in variables.items():
            axes = [f"{name}_{k}" for k in range(np.ndim(values))]
            for axis, length in zip(axes, np.shape(values), strict=True):
                file.createDimension(axis, length)
            kind = "i2" if packed and name == "thetao" else "f8"
            variable = file.createVariable(name, kind, axes, fill_value=-32767)
            if kind == "i2":
                variable.scale_factor, variable.add_offset = 1e-3, 18.0
            variable[...] = values
    return path


def half_hours(first, n_days):
    """Dates of TaxiBJ for all half hours of some days."""
    days = [datetime.date(*first) + datetime.timedelta(k) for k in range(n_days)]
    return [f"{day:%Y%m%d}{slot:02}".encode() for day in days for slot in range(1, 49)]


def taxi(n_days):
    """The flows and dates of each year; frame k of a year shows numbers around its time."""
    found = {}
    for year, count in zip((13, 14, 15, 16), n_days, strict=True):
        dates = half_hours((2000 + year, 2, 26), count)
        rises = np.arange(float(len(dates)))[:, None, None, None] + 1000 * year
        found[year] = rises + 10 * np.random.default_rng(year).random((2, 32, 32)), dates
    return found


def write_taxi(folder, years):
    for year, (flows, dates) in years.items():
        with h5py.File(folder / f"BJ{year}_M32x32_T30_InOut.h5", "w") as file:
            file["data"], file["date"] = flows, dates
    return folder
