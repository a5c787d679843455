"""The study of domains runs through, and what it writes are numbers of its runs."""

import json

from mimic.studies.domains import AT_BOTTLENECK, domains


def test_command_writes_table_and_figure(tmp_path, monkeypatch):
    rows = {"none": None, "MiMIc": {**AT_BOTTLENECK, "weight": 0.1}}
    monkeypatch.setattr("mimic.studies.domains.ROWS", rows)
    domains(1, tmp_path, epochs=1, n_train=32, n_test=40, width=4, audit_steps=10)
    text = (tmp_path / "domains.md").read_text()
    assert text.count("| none |") == text.count("| MiMIc |") == 1
    assert "one seed" in text
    assert (tmp_path / "domains.png").stat().st_size > 20000
    for name in rows:
        numbers = json.loads((tmp_path / "domains" / f"{name}_0.json").read_text())["values"]
        for domain in ("day", "night"):
            assert 0 <= numbers[f"{domain}/miou"] <= 1
            assert 0 <= numbers[f"{domain}/accuracy"] <= 1
