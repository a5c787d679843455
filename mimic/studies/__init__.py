"""Studies: the commands behind the tables of docs/results/mimic.md.

Each study is a grid of settings × seeds on `common.experiments`: finished runs are kept in
files, so a study that was stopped continues where it was.
"""

from pathlib import Path

OUT = Path("lightning_logs/studies")  # default folder of results
