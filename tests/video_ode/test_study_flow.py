"""The studies of the warping ODE."""

from video_ode import study_flow


def test_the_rotation_is_sharp_by_one_sample_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(study_flow, "STEPS", (16,))
    study_flow.rotation(tmp_path / "rotation.md")
    line = (tmp_path / "rotation.md").read_text().strip().splitlines()[-1]
    steps, repeated, euler, euler_epe, rk4, rk4_epe = map(float, line.strip("| ").split(" | "))
    assert steps == 16
    assert 28 < repeated < 36
    assert min(euler, rk4) > 50
    assert rk4_epe < 1e-5 < euler_epe < 0.05


def test_the_table_holds_runs_and_baselines(tmp_path, monkeypatch):
    keys = [key for key, _ in study_flow.SCENES.values()]

    def run(main, configs, folder, words):
        assert configs[0].is_file()
        return folder

    def scores(folder):
        rows = ["", *(f"{row} " for row in study_flow.BASELINES)]
        return {f"{row}{key}": float(len(row)) for row in rows for key in keys}

    monkeypatch.setattr(study_flow, "fit_and_test", run)
    monkeypatch.setattr(study_flow, "table_scores", scores)
    study_flow.scenes(seeds=2, out=tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert all(row in table for row in ["warping ODE", "TV-L1", "zero flow, blend"])
