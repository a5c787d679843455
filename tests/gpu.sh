#!/usr/bin/env bash
# Checks and measures this project on one GPU, in about four minutes, and writes what it found with
# device and versions as one JSON file:
#     bash tests/gpu.sh [FILE]          (default: gpu.json)
# Without a GPU it says so, writes the reason into the file and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python tests/gpu_report.py "${1:-gpu.json}"
