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
    """Print a line per variant, and save its answers in the folder, and those of its 8-bit nodes that lie there."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import numpy as np

    from embedge import EdgeModel
    from embedge._calls import replaying
    from embedge._engine import variant as choosing
    from embedge._sessions.products import EXACT_INT8, graph_features
    from embedge.manifest import load_probes
    from embedge.runtime import open_on_cpu

    exact = EXACT_INT8 in graph_features()
    # every variant is to run, also where it is not meant to
    choosing.graph_features = lambda: frozenset({EXACT_INT8})
    probes = load_probes(Path(bundle))
    for name in variants:
        began = time.monotonic()
        with EdgeModel(bundle, device="cpu", threads=1, variant=name) as model:
            verbs = model._open()
            (report,) = replaying.replay(verbs.engine)
            answers = [replaying._answer(verbs, probe).ravel() for probe in probes.probes]
        np.save(Path(folder) / f"{name}.npy", np.concatenate(answers))
        nodes = Path(folder) / f"{name}.onnx"
        if nodes.exists():
            session = open_on_cpu(nodes)
            names = [value.name for value in session.get_outputs()]
            with np.load(Path(folder) / f"{name}.feeds.npz") as feeds:
                given = session.run(names, dict(feeds))
            np.savez(Path(folder) / f"{name}.given.npz", **dict(zip(names, given, strict=True)))
        found = {"max_abs_diff": report.max_abs_diff, "tolerance": report.tolerance, "exact_int8": exact}
        print(json.dumps({"variant": name, **found, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
