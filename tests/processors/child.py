"""Replay a bundle's probes through the variants that are named, whatever suits the processor; one JSON line each.

Run by an interpreter under emulation, with the runtime alone: python child.py BUNDLE FOLDER VARIANT...
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main(bundle: str, folder: str, variants: list[str]) -> None:
    """Print a line per variant, and save its answers in the folder."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import numpy as np

    from embedge import EdgeModel
    from embedge._calls import replaying
    from embedge._engine import variant as choosing
    from embedge._machine.cpu import EXACT_INT8
    from embedge.manifest import load_probes

    # an emulator shows the real processor's /proc/cpuinfo; every variant is to run, also where it is not meant to
    choosing.graph_features = lambda: frozenset({EXACT_INT8})
    probes = load_probes(Path(bundle))
    for name in variants:
        began = time.monotonic()
        with EdgeModel(bundle, device="cpu", threads=1, variant=name) as model:
            verbs = model._open()
            report = replaying.replay(verbs.engine, probes)
            answers = [replaying._answer(verbs, probe).ravel() for probe in probes.probes]
        np.save(Path(folder) / f"{name}.npy", np.concatenate(answers))
        found = {"max_abs_diff": report.max_abs_diff, "tolerance": report.tolerance, "passed": report.passed}
        print(json.dumps({"variant": name, **found, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
