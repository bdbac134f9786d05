"""python -m benchmarks.jobs.fastembed_folder CHECKPOINT FOLDER: what fastembed would download, traced by optimum."""

import shutil
import sys
from pathlib import Path

from benchmarks.subjects.onnxruntime_script import trace

checkpoint, folder = map(Path, sys.argv[1:])
trace({"kind": "encoder", "checkpoint": str(checkpoint)}, folder)
for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
    shutil.copy(checkpoint / name, folder)
