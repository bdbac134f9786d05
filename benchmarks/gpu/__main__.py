"""Measure on a machine with a CUDA GPU, part by part, each in a process of its own.

    python -m benchmarks.gpu --tokenizer FILE [--documents FILE] [--output FILE] [PART …]

Needs onnxruntime-gpu in place of onnxruntime, torch with CUDA, transformers and embedge with its exporter. Weights and
texts are made on the spot; the tokenizer is BERT's (tokenizer.json of all-MiniLM-L6-v2). Each part adds its figures to
the output file as it ends, so that a part that fails or hangs takes nothing with it. Parts that are asked for by name
are put in place of those in the file, which then says that they were measured later; one that fails leaves its old
figures there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu import models
from benchmarks.gpu.parts import CHOSEN, PARTS, Context

PART_S = 200


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"{name!r} is no part; expected some of {', '.join(PARTS)}")
    return name


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments; no parts mean all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    # by type, as choices would have to hold the empty list as well
    parser.add_argument("parts", nargs="*", type=_part, metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--tokenizer", type=Path, required=True, metavar="FILE", help="tokenizer.json of all-MiniLM-L6-v2"
    )
    parser.add_argument(
        "--documents",
        type=Path,
        metavar="FILE",
        help="JSON list of texts that passages are cut from; default: Python's docs",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("benchmarks/results/gpu.json"),
        metavar="FILE",
        help="figures (default: %(default)s)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "embedge-gpus",
        metavar="FOLDER",
        help="for checkpoints and bundles (default: %(default)s)",
    )
    parser.add_argument(
        "--form", choices=list(models.FORMS), default=CHOSEN, help="of the bundles (default: %(default)s)"
    )
    parser.add_argument(
        "--forms",
        default=f"{CHOSEN},packed_attention,packed_multi_head_attention,attention,standard,bfloat16",
        help=f"some of {', '.join(models.FORMS)}",
    )
    parser.add_argument("--note", default="", help="what else is to be known of the run, for the results")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main() -> None:
    args = arguments()
    if args.inside:
        logging.basicConfig(level=logging.ERROR)
        figures = PARTS[args.inside](Context(args))
        print(json.dumps(figures))
        return
    if lacking := missing(args.tokenizer):
        raise SystemExit(f"nothing was measured: {lacking}")
    here = _measured("machine")
    if "error" in here:
        raise SystemExit(f"nothing was measured: {here['error']}")
    result = json.loads(args.output.read_text()) if args.output.is_file() and args.parts else {}
    added = bool(result)
    if added and here["cards"][0] != result["machine"]["cards"][0]:
        raise SystemExit(
            f"{args.output} is of {result['machine']['cards'][0]}, this machine has {here['cards'][0]}: name another "
            "--output, or no parts to measure all of them"
        )
    result.setdefault("machine", here)
    failed = []
    for part in args.parts or PARTS:
        began = time.perf_counter()
        found = here if part == "machine" else _measured(part)
        if "error" in found:
            failed.append(part)
        if part not in failed or part not in result:
            if added:
                result["later"] = sorted({*result.get("later", []), part})
            result[part] = found
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{part}: {time.perf_counter() - began:.1f} s {json.dumps(found)[:1500]}", flush=True)
    if failed:
        raise SystemExit(
            f"failed: {', '.join(failed)}; figures that {args.output} had of them are still there"
        )


def missing(tokenizer: Path) -> str | None:
    """What this machine or call lacks, with what to do; None if it can measure."""
    if not tokenizer.is_file():
        return f"--tokenizer {tokenizer} is no file; expected the tokenizer.json of all-MiniLM-L6-v2"
    for package in ("onnxruntime", "torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed; {_NEEDS}"
    import onnxruntime
    import torch

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return f"onnxruntime {onnxruntime.__version__} here has no CUDA provider; {_NEEDS}"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no GPU; a CUDA GPU and a build of torch for it are needed"
    return None


_NEEDS = (
    "`pip uninstall onnxruntime`, then `pip install 'onnxruntime-gpu[cuda,cudnn]' torch transformers`, on a machine "
    "with a CUDA GPU"
)


def _measured(part: str) -> dict:
    """A part's figures, measured in a process of its own; "error" where it failed."""
    command = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:], "--inside", part]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PART_S, check=True)
        return json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        return {"error": f"{type(error).__name__}: {error}"[-300:]}


if __name__ == "__main__":
    main()
