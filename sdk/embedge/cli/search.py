"""`embedge search`: rank the paragraphs of text files, or rows that were embedded before, by meaning."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from embedge._corpus.sinks import SINKS
from embedge.cli._console import accent, bold, dim, print_json, width
from embedge.cli._model import add_model_arguments, load
from embedge.cli._parser import Parser
from embedge.cli.run import report_truncated, split_lines
from embedge.corpus import Vectors
from embedge.errors import PromptError
from embedge.model import EdgeModel
from embedge.outputs import ArrayOutputs, EmbeddingRequestOutput

Outputs = ArrayOutputs[EmbeddingRequestOutput]

_BAR_WIDTH = 10
_SHORTEST_PARAGRAPH = 40
_SUFFIXES = (".md", ".rst", ".txt")
_SHOWN_LINES = 3


class Paragraph(msgspec.Struct, frozen=True, kw_only=True):
    """A paragraph of a file.

    Attributes:
        file: where it stands.
        line: its first line, counted from 1.
        text: white space folded.
    """

    file: str
    line: int
    text: str


def add_parser(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `search`."""
    parser = commands.add_parser(
        "search",
        help="rank the paragraphs of files, or saved vectors, for questions",
        description="Embed the paragraphs of text files and rank them for each question; or look through the rows that "
        '"embedge encode FILES -o VECTORS" wrote.',
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--bundle",
        dest="bundle_of_vectors",
        metavar="BUNDLE",
        help="of saved vectors: where their bundle is; default: their bundle's name in the store",
    )
    parser.add_argument("questions", metavar="QUESTION", nargs="+", help="what to rank for")
    parser.add_argument(
        "--in",
        dest="files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="text or Markdown files, or folders of them; without, BUNDLE is saved vectors: .npy, .jsonl or .parquet",
    )
    parser.add_argument(
        "--top", type=int, default=3, metavar="N", help="paragraphs or rows per question (default 3)"
    )
    parser.add_argument(
        "--prompt-name",
        metavar="NAME",
        help='of saved vectors: stored prompt for questions (default: "query")',
    )
    parser.add_argument(
        "--rescore",
        type=Path,
        metavar="VECTORS",
        help="of saved vectors: the same rows in more bytes, whose cosines decide between the nearest",
    )
    parser.add_argument(
        "--oversample", type=int, metavar="N", help="of saved vectors: rows rescored for each one shown"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per question on stdout")
    parser.set_defaults(run=run_search)


def run_search(args: argparse.Namespace) -> int:
    """Embed, rank and show."""
    if args.top < 1:
        raise PromptError(f"--top {args.top} shows nothing; expected at least 1")
    if args.files is None:
        return _search_rows(args)
    files = text_files(args.files)
    paragraphs = [paragraph for file in files for paragraph in read_paragraphs(file)]
    if not paragraphs:
        raise PromptError(
            f"no paragraph of {_SHORTEST_PARAGRAPH} characters or more in {', '.join(map(str, args.files))}"
        )
    started = time.perf_counter()
    with load(args, truncate_prompt_tokens=-1) as model:
        loaded = time.perf_counter()
        documents = model.embed(
            [p.text for p in paragraphs],
            tower=model.manifest.tower_for("document"),
            use_tqdm=sys.stderr.isatty(),
        )
        embedded = time.perf_counter()
        report_truncated(documents)
        if not args.json:
            _show_corpus(model, files, documents, loaded - started, embedded - loaded)
        for question in args.questions:
            asked = time.perf_counter()
            by_query = model.embed(question, tower=model.manifest.tower_for("query"))
            scores = _cosines(documents.numpy(), by_query.numpy()[0])
            best = np.argsort(-scores, kind="stable")[: args.top]
            latency_ms = (time.perf_counter() - asked) * 1e3
            ranked = [(float(scores[i]), paragraphs[i]) for i in best]
            if args.json:
                print_json(
                    {
                        "question": question,
                        "latency_ms": round(latency_ms, 2),
                        "paragraphs": [{"score": s, **msgspec.to_builtins(p)} for s, p in ranked],
                    }
                )
            else:
                shown = [(score, f"{p.file}:{p.line}", p.text) for score, p in ranked]
                _show_answer(question, shown, latency_ms)
    return 0


def _search_rows(args: argparse.Namespace) -> int:
    """Look through rows that were embedded before."""
    if Path(args.bundle).suffix not in SINKS:
        raise PromptError(
            f"there is nothing to search: no --in is given, and {args.bundle} is no file of saved vectors; expected "
            f"a name that ends in {', '.join(SINKS)}. Pass --in FILE … -- QUESTION, or vectors in place of the bundle."
        )
    vectors = Vectors.open(args.bundle)
    finer = None if args.rescore is None else Vectors.open(args.rescore)
    facts = vectors.facts
    bundle = args.bundle_of_vectors or facts.bundle
    with load(args, bundle) as model:
        if not args.json:
            size = f"{len(vectors):,} rows of {facts.dimensions} components in {facts.precision}"
            print(bold(args.bundle) + dim(f"  {size}, by {facts.bundle} {facts.fingerprint[:12]}"))
        for question in args.questions:
            asked = time.perf_counter()
            (hits,) = vectors.search(
                model,
                question,
                top=args.top,
                prompt_name=args.prompt_name,
                rescore=finer,
                oversample=args.oversample,
            )
            latency_ms = (time.perf_counter() - asked) * 1e3
            if args.json:
                rows = [msgspec.to_builtins(hit) for hit in hits]
                print_json({"question": question, "latency_ms": round(latency_ms, 2), "rows": rows})
            else:
                shown = [(hit.score, str(hit.id), hit.text or "") for hit in hits]
                _show_answer(question, shown, latency_ms)
    return 0


def text_files(named: Sequence[Path]) -> list[Path]:
    """Files as they are named; of a folder those of text that are anywhere in it, sorted."""
    files: list[Path] = []
    for path in named:
        inside = (each for each in path.rglob("*") if each.suffix.lower() in _SUFFIXES and each.is_file())
        files += sorted(inside) if path.is_dir() else [path]
    return files


def read_paragraphs(file: Path) -> list[Paragraph]:
    """Cut a file at blank lines; headings, fences and fragments are left out.

    Raises:
        PromptError: the file is not UTF-8 text.
        OSError: it cannot be read.
    """
    lines = split_lines(file.read_bytes(), str(file))
    paragraphs = []
    block: list[str] = []
    in_fence = False
    for number, line in enumerate([*lines, ""], 1):
        if line.lstrip().startswith("```"):
            in_fence = not in_fence
            continue
        if in_fence:
            continue
        starts_item = bool(re.match(r"\s*([-*|]|\d+\.)\s*", line))
        if block and (not line.strip() or starts_item or line.startswith("#")):
            text = _plain(" ".join(block))
            if len(text) >= _SHORTEST_PARAGRAPH:
                paragraphs.append(Paragraph(file=str(file), line=number - len(block), text=text))
            block = []
        if line.strip() and not line.startswith(("#", "|", "<", "![")):
            block.append(line)
    return paragraphs


def _plain(markdown: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    text = re.sub(r"^\s*([-*]|\d+\.)\s+", "", text)
    return re.sub(r"\s+", " ", text.replace("**", "").replace("`", "")).strip()


def _cosines(documents: np.ndarray, query: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(documents, axis=1) * np.linalg.norm(query)
    return (documents @ query) / np.maximum(lengths, 1e-12)


def _show_corpus(
    model: EdgeModel, files: list[Path], outputs: Outputs, load_s: float, embed_s: float
) -> None:
    num_tokens = sum(len(output.prompt_token_ids) for output in outputs)
    print(
        bold(model.info.name)
        + dim(f"  {model.info.variant} on {model.info.device}, loaded in {load_s:.2f} s")
    )
    print(
        f"{_counted(len(outputs), 'paragraph')} of {_counted(len(files), 'file')}, {num_tokens:,} tokens, "
        f"embedded in {embed_s:.2f} s "
        + dim(f"({len(outputs) / embed_s:,.0f} paragraphs/s, {num_tokens / embed_s:,.0f} tokens/s)")
    )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _show_answer(question: str, ranked: list[tuple[float, str, str]], latency_ms: float) -> None:
    """Scores, where what was found stands, and its text."""
    print()
    print(accent("? ") + bold(question) + dim(f"   {latency_ms:.1f} ms"))
    for score, place, text in ranked:
        filled = round(max(0.0, min(1.0, score)) * _BAR_WIDTH)
        bar = accent("█" * filled) + dim("░" * (_BAR_WIDTH - filled))
        print(f"  {score:5.3f} {bar} {dim(place)}")
        for line in textwrap.wrap(text, width() - 8, max_lines=_SHOWN_LINES, placeholder=" …"):
            print("        " + line)
