"""Every public entry gives the right answer or one clear error for twelve kinds of input."""

import inspect

import numpy as np
import pytest
import torch

from common.errors import InputError
from mimic import (
    MiMIcRegularizer,
    gaussian_total_correlation,
    measure_total_correlation,
    mutual_information,
    shuffle_channels,
    total_correlation,
)
from mimic.metrics import MIG
from mimic.metrics.information import mig, mutual_information_matrix
from mimic.metrics.interventional import irs

torch.manual_seed(0)
Z = torch.randint(1, 200, (60, 3)).float()
V = torch.arange(60)[:, None] % 3


def plain(function):
    """The function without the check of types that tests run under."""
    return inspect.unwrap(function)


def seeded(function):
    return lambda z: function(z, generator=torch.Generator().manual_seed(0))


def regularized(z):
    regularizer = MiMIcRegularizer()
    return plain(MiMIcRegularizer.__call__)(regularizer, z).item()


def metric(z):
    score = MIG()
    plain(MIG.update)(score, z, V)
    return score.compute()


def split(z):
    return plain(mutual_information)(z[0] if isinstance(z, tuple) else z, Z[:, 0], steps=3)


ENTRIES = {
    "measure": lambda z: plain(measure_total_correlation)(z, steps=3),
    "mutual information": split,
    "gaussian": plain(gaussian_total_correlation),
    "shuffle": seeded(plain(shuffle_channels)),
    "estimate": seeded(
        lambda z, generator: plain(total_correlation)(z, lambda x: x.sum(1), generator=generator)
    ),
    "regulariser": regularized,
    "metric": metric,
    "mig": lambda z: plain(mig)(z, V),
    "matrix": lambda z: plain(mutual_information_matrix)(z, V),
    "irs": lambda z: plain(irs)(z, V),
}
SAME = {
    "numpy": Z.numpy(),
    "double": Z.double(),
    "half precision": Z.half(),
    "bytes": Z.to(torch.uint8),
    "no gradient to keep": Z.clone().requires_grad_(),
}
WRONG = {
    "NaN": Z.clone().index_fill_(1, torch.tensor([1]), torch.nan),
    "empty": Z[:0],
    "list": Z.tolist(),
    "labels beside": (Z, V),
    "one row": Z[:1],
    "one number": Z[0, 0],
    "words": np.array([["a", "b"]] * 60),
    "complex": Z.to(torch.complex64),
}
FLOATING_ONLY = (
    "metric",
    "mig",
    "matrix",
    "irs",
)  # codes of whole numbers may be labels by mistake


def numbers(answer):
    return [float(x) for x in torch.as_tensor(answer).detach().flatten()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_same_numbers_of_another_type_give_the_same(entry, kind):
    if kind == "bytes" and entry in FLOATING_ONLY:
        with pytest.raises(InputError, match="give floating-point"):
            ENTRIES[entry](SAME[kind])
        return
    found, expected = (numbers(ENTRIES[entry](z)) for z in (SAME[kind], Z))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("entry", ENTRIES)
def test_other_input_is_refused(entry, kind):
    if kind == "NaN" and entry in ("gaussian", "regulariser", "estimate", "shuffle"):
        assert not np.isfinite(numbers(ENTRIES[entry](WRONG[kind]))).all()  # as documented
    elif (kind, entry) in {("labels beside", "mutual information")}:
        with pytest.raises(InputError):
            plain(mutual_information)(WRONG[kind], Z[:, 0])
    else:
        with pytest.raises((InputError, ValueError), match=r"got .*;|the channels|samples"):
            ENTRIES[entry](WRONG[kind])


def test_two_variables_have_as_many_samples():
    with pytest.raises(InputError, match="got 60 and 50 samples"):
        mutual_information(Z, Z[:50])


def test_labels_are_one_for_each_row():
    with pytest.raises(InputError, match="give one each"):
        measure_total_correlation(Z, torch.zeros(50, dtype=torch.int64), 2)
    found = measure_total_correlation(Z.numpy(), V[:, 0].numpy(), 3, steps=3)
    assert found == measure_total_correlation(Z, V[:, 0], 3, steps=3)
