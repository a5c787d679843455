"""The studies' commands: their tables, from tiny runs."""

from msflow import study
from msflow.cli import main
from tests import tiny

DATA = "data: {class_path: EmbeddedDigits, init_args: {batch_size: 4}}\n"
TRAINER = """trainer:
  accelerator: cpu
  max_steps: 2
  log_every_n_steps: 1
  limit_val_batches: 1
  limit_test_batches: 1
"""


def cells(path):
    rows = path.read_text().strip().splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_table_of_solvers_has_a_row_for_each(tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").write_text(tiny.FLOW + DATA + TRAINER)
    words = ["--config", str(tmp_path / "tiny.yaml"), "--trainer.default_root_dir", str(tmp_path)]
    main(["fit", *words])
    (file,) = tmp_path.rglob("last.ckpt")
    monkeypatch.setattr(study, "SOLVERS", study.SOLVERS[1:2])
    study.solvers(file, n=2, out=tmp_path / "table.md")
    ((name, evaluations, _, error, gradient, _),) = cells(tmp_path / "table.md")
    assert (name, evaluations) == ("rk4, step 0.25", "48")
    assert 0 <= float(error) < 1e-3
    assert 0 <= float(gradient) < 1e-2


def test_the_table_of_objectives_has_bits_time_and_the_solvers_error(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "CONFIGS", tmp_path)
    likelihood = "class_path: msflow.objectives.Likelihood"
    assert "class_path: msflow.objectives.FlowMatching" in tiny.FLOW
    by_likelihood = tiny.FLOW.replace("class_path: msflow.objectives.FlowMatching", likelihood)
    (tmp_path / "digits.yaml").write_text(tiny.FLOW + DATA + TRAINER)
    (tmp_path / "digits_likelihood.yaml").write_text(by_likelihood + DATA + TRAINER)
    study.objectives(seeds=1, out=tmp_path / "out")
    rows = cells(tmp_path / "out" / "objectives.md")
    assert [row[0] for row in rows] == ["likelihood", "flow matching"]
    for row in rows:
        assert 0 < float(row[1]) < 20
        assert 0 <= float(row[3]) < 0.1
        assert row[4] == "2"
