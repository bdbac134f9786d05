"""`embedge encode`: texts, or files of them, to vectors or rows."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from embedge._corpus.compute import Asking
from embedge.cli._console import bold, dim, print_json, width
from embedge.cli._model import add_model_arguments, load
from embedge.cli._parser import Parser
from embedge.cli.corpus import (
    add_corpus_arguments,
    add_texts_or_files,
    check_destination,
    names_files,
    run_job,
)
from embedge.errors import CorpusError, ParamsError, PromptError
from embedge.params import PoolingParams
from embedge.types import FloatArray

_SHOWN_COMPONENTS = 4


def add_parsers(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `encode`."""
    encode = commands.add_parser(
        "encode", help="embed texts or files", description="Embed texts, or the rows of files."
    )
    add_model_arguments(encode)
    add_texts_or_files(encode)
    encode.add_argument(
        "--task",
        choices=("embed", "token_embed"),
        default="embed",
        metavar="TASK",
        help="embed (default), token_embed",
    )
    encode.add_argument(
        "--dimensions", type=int, metavar="N", help="keep the leading components (Matryoshka models)"
    )
    encode.add_argument(
        "--normalize", action=argparse.BooleanOptionalAction, help="unit length; default: the model's"
    )
    encode.add_argument(
        "--tower", metavar="NAME", help='"query" or "document", of models that embed them apart'
    )
    prompt = encode.add_mutually_exclusive_group()
    prompt.add_argument("--prompt-name", metavar="NAME", help="stored prompt to put before each text")
    prompt.add_argument("--prompt", metavar="TEXT", help="text to put before each text; '' for none")
    encode.add_argument(
        "--truncate",
        type=int,
        default=-1,
        metavar="K",
        help="keep K tokens of each text; -1 (default) cuts to the limit",
    )
    output = encode.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object per text on stdout")
    output.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write .npy, or, for files, .jsonl or .parquet, too"
    )
    add_corpus_arguments(encode, embeds=True)
    encode.instead = {"--in": "Files come after the bundle, without a flag."}
    encode.set_defaults(run=run_encode)


def run_encode(args: argparse.Namespace) -> int:
    """Embed and write."""
    if names_files(args):
        return _run_files(args)
    if args.output is not None:
        _check_output(args.output, args.task)
    texts = read_texts(args.texts)
    params = PoolingParams(
        dimensions=args.dimensions, normalize=args.normalize, truncate_prompt_tokens=args.truncate
    )
    with load(args) as model:
        outputs: Any = model.encode(
            texts,
            params,
            pooling_task=args.task,
            tower=args.tower,
            prompt_name=args.prompt_name,
            prompt=args.prompt,
            use_tqdm=sys.stderr.isatty() and len(texts) > 1,
        )
    report_truncated(outputs)
    if args.json:
        for index, (text, output) in enumerate(zip(texts, outputs, strict=True)):
            print_json(
                {
                    "index": index,
                    "text": text,
                    "embedding": output.outputs.data.tolist(),
                    "num_tokens": len(output.prompt_token_ids),
                    "num_truncated_tokens": output.num_truncated_tokens,
                }
            )
    elif args.output is not None:
        _save(args.output, outputs.numpy())
    else:
        for text, output in zip(texts, outputs, strict=True):
            _show(text, output)
    return 0


def _run_files(args: argparse.Namespace) -> int:
    check_destination(
        args,
        args.texts[0],
        output="vectors.npy",
        purpose="to embed",
        instead=", or --text to embed the name itself",
    )
    if args.task != "embed":
        raise CorpusError(
            f"--task {args.task} gives arrays of many sizes; expected embed for the rows of files"
        )
    if args.truncate != -1:
        raise CorpusError(
            f"--truncate {args.truncate} is for texts; expected --long-text for the rows of files"
        )
    asking = Asking(
        dimensions=args.dimensions,
        normalize=args.normalize,
        tower=args.tower,
        prompt_name=args.prompt_name,
        prompt=args.prompt,
        long_text=args.long_text,
    )
    return run_job(args, args.texts, asking)


def read_texts(arguments: list[str]) -> list[str]:
    """Texts of the command line, or the lines of stdin for "-".

    Raises:
        PromptError: stdin is not UTF-8, or holds no line.
    """
    if arguments != ["-"]:
        return arguments
    lines = split_lines(sys.stdin.buffer.read(), "stdin") if sys.stdin is not None else []
    if not lines:
        raise PromptError("stdin holds no line; expected one text per line")
    return lines


def split_lines(data: bytes, name: str) -> list[str]:
    """Decode UTF-8 and cut it at line feeds; other characters that separate lines belong to the text.

    Raises:
        PromptError: not UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(
            f"{name} is not UTF-8 text: {error.reason} at byte {error.start}. Convert it first, e.g. with iconv."
        ) from error
    lines = text.replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def report_truncated(outputs: Any) -> None:
    """Say on stderr how many texts were cut."""
    cut = sum(output.num_truncated_tokens > 0 for output in outputs)
    if cut:
        print(
            f"embedge: {cut} of {len(outputs)} texts were longer than the limit and were cut", file=sys.stderr
        )


def _check_output(file: Path, task: str) -> None:
    if task == "token_embed":
        raise PromptError("token_embed gives one array per text, which no .npy file holds; use --json")
    if file.is_dir() or not file.parent.is_dir():
        problem = "is a folder" if file.is_dir() else "lies in no folder that exists"
        raise ParamsError(f"-o {file} {problem}; expected a file to write, as in vectors.npy")


def _save(file: Path, arrays: FloatArray) -> None:
    # a pipe or device has no name beside it to write to first
    is_special = file.exists() and not file.is_file()
    target = file if is_special else file.resolve()
    part = file if is_special else target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            header = np.lib.format.header_data_from_array_1_0(arrays)
            np.lib.format.write_array_header_1_0(stream, header)
            stream.write(np.ascontiguousarray(arrays).data)  # np.save reports a full disk without its reason
        if not is_special:
            part.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        if not is_special:
            part.unlink(missing_ok=True)
    print(f"wrote float32 {arrays.shape} to {file}", file=sys.stderr)


def _show(text: str, output: Any) -> None:
    data = output.outputs.data
    shown = text if len(text) <= width() else text[: width() - 1] + "…"
    rows = data[None] if data.ndim == 1 else data
    print(bold(shown))
    print(dim(f"{len(output.prompt_token_ids)} tokens, {' x '.join(map(str, data.shape))} components"))
    for row in rows:
        components = " ".join(f"{value: .4f}" for value in row[:_SHOWN_COMPONENTS])
        print(f"  [{components} …]  norm {np.linalg.norm(row):.4f}")
