"""Every set can be named in a configuration file and sent to a worker."""

import pickle

import pytest
from jsonargparse import ArgumentParser

from common.data.base import Data
from mimic.supervised.data import factor_files, folders, labelled, scenes, sprites
from mimic.supervised.data.factors import FactorData

SETS = {
    labelled.LabelledDigits: {},
    labelled.SmallDigits: {},
    labelled.LabelledMNIST: {"root": "mnist", "val_fraction": 0.2},
    labelled.LabelledCIFAR10: {"root": "cifar"},
    factor_files.DSprites: {"root": "sprites", "n_train": 5, "split_seed": 3},
    factor_files.Shapes3D: {"root": "rooms"},
    factor_files.MPI3D: {"root": "arms", "version": "real"},
    sprites.RenderedSprites: {"size": 64, "n_train": 5, "n_val": 5, "n_test": 5},
    scenes.RenderedScenes: {"test_domain": "night", "size": [32, 64], "n_train": 5},
    folders.SegmentationFolders: {"root": "streets", "layout": "bdd100k", "size": [64, 128]},
}


@pytest.mark.parametrize("kind", SETS)
def test_a_set_is_built_from_a_configuration(kind):
    parser = ArgumentParser()
    parser.add_subclass_arguments(Data, "data")
    shared = {"batch_size": 3, "num_workers": 2}
    if not issubclass(kind, FactorData):
        shared["flip"] = False
    given = {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": SETS[kind] | shared}
    data = parser.instantiate_classes(parser.parse_object({"data": given})).data
    assert type(data) is kind
    assert (data.batch_size, data.num_workers, data.flip) == (3, 2, False)
    assert len(data.shape) == 3
    assert type(pickle.loads(pickle.dumps(data))) is kind


@pytest.mark.parametrize(
    "kind", [sprites.RenderedSprites, scenes.RenderedScenes, labelled.SmallDigits]
)
def test_workers_serve_the_same_batches(kind):
    settings = {key: value for key, value in SETS[kind].items() if key.startswith("n_")}
    batches = []
    for num_workers in (0, 2):
        data = kind(batch_size=5, num_workers=num_workers, **settings)
        data.setup("fit")
        batches.append(next(iter(data.train_dataloader())))
    assert all((a == b).all() for a, b in zip(*batches, strict=True))
