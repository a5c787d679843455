"""Studies refuse settings that can't be run, before they write anything."""

import pytest

from common.errors import InputError
from mimic.studies.disentanglement import disentanglement
from mimic.studies.domains import domains
from mimic.studies.minmax import minmax
from mimic.studies.placement import placement
from mimic.studies.transfer import transfer


@pytest.mark.parametrize(
    ("study", "settings"),
    [
        (placement, {"seeds": 0}),
        (placement, {"audit_steps": 0}),
        (minmax, {"steps": 0}),
        (transfer, {"n_train": -3}),
        (domains, {"width": 0}),
        (disentanglement, {"n_trees": 0}),
    ],
)
def test_studies_refuse_what_cannot_be_run(study, settings, tmp_path):
    with pytest.raises(InputError, match=f"got {next(iter(settings))} .*; give 1 or more"):
        study(out=tmp_path, **settings)
    assert not list(tmp_path.iterdir())
