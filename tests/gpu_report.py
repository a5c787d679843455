"""Report of the GPU tests, the benchmarks on CUDA and a minute of training, as one JSON file.

    python tests/gpu_report.py gpu.json

See tests/gpu.sh.
"""

import csv
import datetime
import json
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "pytorch-lightning", "torchdiffeq", "torchmetrics", "jsonargparse")
BENCHMARKS = {
    "cnf_step": ["tests/benchmarks/cnf_step.py", "--no-compile", "--repeats", "5"],
    "srvp_step": ["tests/benchmarks/srvp_step.py", "--no-compile", "--repeats", "5"],
}
MINUTE = [
    *("-m", "msflow.cli", "fit", "--config", "msflow/configs/digits.yaml"),
    *("--trainer.accelerator", "gpu", "--trainer.devices", "1"),
    *("--trainer.max_time", "00:00:01:00", "--trainer.enable_progress_bar", "false"),
    *("--trainer.check_val_every_n_epoch", "2"),
    *("--trainer.logger", "pytorch_lightning.loggers.CSVLogger"),
]


def run(words: list[str], limit: int) -> dict[str, Any]:
    """Exit status, seconds and the last lines of a Python command."""
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, timeout=limit
        )
        status, text = done.returncode, done.stdout + (done.stderr if done.returncode else "")
    except subprocess.TimeoutExpired:
        status, text = 124, f"stopped after {limit} seconds"
    lines = [line for line in text.splitlines() if line.strip()][-25:]
    print("\n".join(lines), flush=True)
    return {"status": status, "seconds": round(time.perf_counter() - start, 1), "output": lines}


def minute_of_digits() -> dict[str, Any]:
    """A minute of training on digits, with the best bits per dimension of the validation."""
    with tempfile.TemporaryDirectory() as folder:
        found = run([*MINUTE, "--trainer.logger.save_dir", folder], 150)
        logs = list(Path(folder).glob("**/metrics.csv"))
        rows = list(csv.DictReader(logs[0].open())) if logs else []
    bits = [float(row["val/bpd"]) for row in rows if row.get("val/bpd")]
    steps = [int(row["step"]) for row in rows if row.get("step")]
    return {**found, "val/bpd": min(bits, default=None), "steps": max(steps, default=None)}


def main(path: Path) -> int:
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
    }
    if torch.cuda.is_available():
        report["device"] = torch.cuda.get_device_name()
        report["tests"] = run(["-m", "pytest", "-q", "-m", "gpu", "tests"], 240)
        cuda = ["--device", "cuda"]
        report |= {name: run([*words, *cuda], 120) for name, words in BENCHMARKS.items()}
        report["digits"] = minute_of_digits()
    else:
        report["skipped"] = "PyTorch finds no CUDA device (torch.cuda.is_available() is false)"
        print(f"skipped: {report['skipped']}")
    path.write_text(json.dumps(report, indent=1))
    print(f"report: {path.resolve()}")
    parts = [
        part["status"] for part in report.values() if isinstance(part, dict) and "status" in part
    ]
    return max(parts, default=0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
