"""Measure on a machine with a CUDA GPU, part by part, each in a process of its own.

    python -m benchmarks.gpu --tokenizer FILE [--documents FILE] [--output FILE] [PART …]

Needs onnxruntime-gpu in place of onnxruntime, torch with CUDA, transformers and embedge with its exporter. Weights and
texts are made on the spot; the tokenizer is BERT's (tokenizer.json of all-MiniLM-L6-v2). Each part has a process and a
time of its own. Without parts all are measured, into FILE.unfinished.json until they are done. Parts that are asked for
by name are put in place of those in the file, which then says that they were measured later; one that fails leaves its
old figures there.
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
    parser.add_argument("--inside", choices=list(PARTS), help=argparse.SUPPRESS)
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
    failed = measure_again(args.output, args.parts, here) if args.parts else measure_all(args.output, here)
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}")


def measure_all(output: Path, here: dict) -> list[str]:
    """Every part, into a file beside the old one, which it replaces at the end; returns which failed."""
    result: dict = {}
    unfinished = output.with_suffix(".unfinished.json")
    for part in PARTS:
        result[part] = here if part == "machine" else _reported(part)
        _write(unfinished, result)
    unfinished.replace(output)
    return [
        f"{part}, of which there are no figures now" for part, found in result.items() if "error" in found
    ]


def measure_again(output: Path, parts: list[str], here: dict) -> list[str]:
    """Some parts, in place of those in the file, if it is of such a machine; returns which failed.

    Raises:
        SystemExit: the file is none of this benchmark, or of another card, onnxruntime or form.
    """
    added = output.is_file()
    result = _read(output) if added else {"machine": here}
    ours = _kind(here)
    for what, theirs in _kind(result["machine"]).items():
        if theirs != ours[what]:
            raise SystemExit(
                f"{output} was measured with {what} {theirs}, and here is {ours[what]}: name another --output, or no "
                "parts to measure all of them"
            )
    failed = []
    for part in parts:
        if part == "machine":
            continue
        found = _reported(part)
        if "error" in found and part in result:
            failed.append(f"{part}, whose old figures are still in {output}")
            continue
        if "error" in found:
            failed.append(part)
        elif added:
            result["later"] = sorted({*result.get("later", []), part})
        result[part] = found
        _write(output, result)
    _write(output, result)
    return failed


def _kind(machine: dict) -> dict[str, str]:
    """What figures of one file have in common."""
    return {
        "the card": machine["cards"][0],
        "onnxruntime": machine["onnxruntime"],
        "the form": machine["form"],
    }


def _read(output: Path) -> dict:
    try:
        result = json.loads(output.read_text())
        _kind(result["machine"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise SystemExit(
            f"{output} is no file of this benchmark ({type(error).__name__}); name another --output"
        ) from error
    return result


def _write(output: Path, result: dict) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")


def _reported(part: str) -> dict:
    began = time.perf_counter()
    found = _measured(part)
    print(f"{part}: {time.perf_counter() - began:.1f} s {json.dumps(found)[:1500]}", flush=True)
    return found


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
