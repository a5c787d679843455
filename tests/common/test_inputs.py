"""Pictures of any kind that a user gives: the same floats in [0, 1], or one clear error."""

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.inputs import as_pixels

BYTES = (torch.arange(2 * 3 * 4 * 5) * 2).byte().reshape(2, 3, 4, 5)
UNIT = BYTES / 255
SHAPE = (3, 4, 5)
RIGHT = {
    "bytes": BYTES,
    "floats": UNIT,
    "double": UNIT.double(),
    "numpy bytes": BYTES.numpy(),
    "numpy doubles": UNIT.double().numpy(),
    "a numpy view": np.ascontiguousarray(BYTES.numpy()[:, :, ::-1])[:, :, ::-1],
    "a read-only array": np.frombuffer(BYTES.numpy().tobytes(), np.uint8).reshape(2, 3, 4, 5),
    "list of numbers": UNIT.tolist(),
    "list of images": list(BYTES),
    "list of arrays": list(UNIT.numpy()),
    "rounding errors": UNIT * 1.0005 - 0.0001,
    "labels beside": (BYTES, torch.tensor([1, 2])),
    "numpy and labels": [BYTES.numpy(), [1, 2]],
    "half precision": UNIT.half(),
    "bfloat16": (UNIT * 128).round().bfloat16() / 128,
}
WRONG = {
    "bytes as floats": (BYTES.float(), "got floats from 0 to 238; give floats from 0 to 1"),
    "minus one to one": (2 * UNIT - 1, "got floats from -1"),
    "integers": (BYTES.long(), "type torch.int64; give bytes"),
    "list of integers": (BYTES.tolist(), "type torch.int64; give bytes"),
    "a mask": (BYTES > 9, "type torch.bool"),
    "channels last": (BYTES.movedim(1, -1), "channels last"),
    "no batch axis": (BYTES[0], r"shape \(3, 4, 5\); give \(images, channels"),
    "empty": (BYTES[:0], "at least one image"),
    "another size": (BYTES[..., :4], r"\(2, 3, 4, 4\), but the model is for 3 x 4 x 5"),
    "NaN": (UNIT / UNIT, "NaN"),
    "infinite": (UNIT / 0, "NaN or infinite"),
    "another device": (BYTES.to("meta"), "on meta, but the model is on cpu"),
    "uneven list": ([BYTES[0], BYTES[0, :, :2]], "list of pictures of equal size"),
    "two batches": ((BYTES, BYTES), "2 batches of pictures"),
    "words": (["a", "b"], "no array of numbers"),
    "a batch of another kind": ([{"images": BYTES}], "a list that is no array"),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_pictures_of_every_kind_are_the_same_floats(kind):
    found = as_pixels(RIGHT[kind], 4, SHAPE, torch.zeros(1))
    assert found.dtype == torch.float32
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    torch.testing.assert_close(found, UNIT, atol=4e-3, rtol=0)


@pytest.mark.parametrize("kind", WRONG)
def test_others_end_in_one_clear_error(kind):
    given, message = WRONG[kind]
    with pytest.raises(InputError, match=message):
        as_pixels(given, 4, SHAPE, torch.zeros(1))


def test_fields_have_any_range_but_are_finite():
    field = 100 * torch.randn(2, 3, 1, 4, 4)
    assert torch.equal(as_pixels(field, 5, fields=True), field)
    with pytest.raises(InputError, match="NaN"):
        as_pixels(field.log(), 5, fields=True)


def test_gradients_reach_the_pictures():
    x = UNIT.clone().requires_grad_()
    as_pixels(x, 4).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
