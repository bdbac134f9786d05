"""`embedge classify | score | rerank`: texts to labels, pairs to scores, documents in order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from embedge._corpus.compute import Asking, CorpusTask
from embedge._corpus.job import answers
from embedge._corpus.journal import check_free
from embedge._corpus.ranking import rank
from embedge._corpus.records import Identifier
from embedge._replacing import replace_whole
from embedge.cli._console import accent, bold, dim, print_json, width
from embedge.cli._model import add_model_arguments, load
from embedge.cli._parser import Parser
from embedge.cli.corpus import (
    add_corpus_arguments,
    add_reading_arguments,
    add_text_argument,
    add_texts_or_files,
    check_destination,
    job_of,
    names_files,
    run_job,
)
from embedge.cli.run import read_texts, report_truncated
from embedge.errors import CorpusError
from embedge.model import EdgeModel
from embedge.params import PoolingParams

_SHOWN_LABELS = 5


def add_parsers(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `classify`, `score` and `rerank`."""
    classify = commands.add_parser(
        "classify",
        help="label texts",
        description="Label texts, or the lines of stdin, with a classifier's bundle.",
    )
    _add_arguments(classify)
    add_texts_or_files(classify)
    _add_files(classify)
    classify.set_defaults(run=run_classify)

    score = commands.add_parser(
        "score",
        help="score documents against a query",
        description="Score each document, in the order given.",
    )
    _add_pair_arguments(score, documents="*")
    score.add_argument(
        "--pair-column",
        metavar="NAME",
        help="score the pairs of files, which QUERY and DOCUMENT name then: column of the second text",
    )
    _add_files(score)
    score.set_defaults(run=run_score)

    rerank = commands.add_parser(
        "rerank",
        help="order documents for a query",
        description="Score each document, or each row of files, and show the best first.",
    )
    _add_pair_arguments(rerank)
    rerank.add_argument("--top", type=int, metavar="N", help="show only the best N")
    rerank.add_argument("-o", "--output", type=Path, metavar="FILE", help="of files: .jsonl to write")
    rerank.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    add_text_argument(rerank)
    add_reading_arguments(rerank)
    rerank.set_defaults(run=run_rerank)


def run_classify(args: argparse.Namespace) -> int:
    """Label each text."""
    if names_files(args):
        return _judge_files(args, args.texts, "classify")
    if args.output is not None:
        raise CorpusError("-o is for the rows of files; expected files, or --json for texts")
    texts = read_texts(args.texts)
    params = PoolingParams(use_activation=not args.logits)
    with _load(args) as model:
        outputs = model.classify(texts, pooling_params=params, use_tqdm=_shows_progress(texts))
    report_truncated(outputs)
    for index, (text, output) in enumerate(zip(texts, outputs, strict=True)):
        answer = output.outputs
        ranked = sorted(zip(answer.labels, answer.probs, strict=True), key=lambda pair: -pair[1])
        if args.json:
            print_json({"index": index, "text": text, "label": answer.label, "probs": dict(ranked)})
            continue
        print(bold(_shorten(text)))
        for label, value in ranked[:_SHOWN_LABELS]:
            print(f"  {value:8.4f}  {accent(label) if label == answer.label else label}")
    return 0


def run_score(args: argparse.Namespace) -> int:
    """Score each document."""
    if args.pair_column is not None:
        return _judge_files(args, [args.query, *args.documents], "score")
    if args.output is not None:
        raise CorpusError("-o is for the pairs of files; expected --pair-column, or --json for texts")
    if not args.documents:
        raise CorpusError(
            "no document is given; expected at least one after the query, or --pair-column and files"
        )
    documents = read_texts(args.documents)
    with _load(args) as model:
        outputs = model.score(
            args.query,
            documents,
            pooling_params=_score_params(args),
            instruction=args.instruction,
            use_tqdm=_shows_progress(documents),
        )
    report_truncated(outputs)
    _show(args, [(i, output.outputs.score, documents[i]) for i, output in enumerate(outputs)])
    return 0


def run_rerank(args: argparse.Namespace) -> int:
    """Order the documents."""
    if names_files(args):
        return _rerank_files(args)
    if args.output is not None:
        raise CorpusError("-o is for the rows of files; expected files, or --json for texts")
    documents = read_texts(args.documents)
    with _load(args) as model:
        results = model.rerank(
            args.query,
            documents,
            args.top,
            pooling_params=_score_params(args),
            instruction=args.instruction,
            use_tqdm=_shows_progress(documents),
        )
    _show(args, [(result.index, result.score, result.document) for result in results])
    return 0


def _rerank_files(args: argparse.Namespace) -> int:
    """Order the rows of files; with --top no more than so many are held."""
    if args.logits or args.truncate != -1:
        raise CorpusError("--logits and --truncate are for texts; expected neither for the rows of files")
    if args.top is not None and args.top < 1:
        raise CorpusError(f"--top {args.top} shows nothing; expected at least 1")
    if args.output is not None:
        _check_ranked(args)
    job = job_of(args, args.documents, Asking(task="score", query=args.query, prompt=args.instruction))
    with load(args) as model:
        ranked = rank(answers(model, job), args.top)
    if args.output is not None:
        replace_whole(args.output, b"".join(msgspec.json.encode(row) + b"\n" for row in ranked))
        print(f"wrote {len(ranked):,} rows to {args.output}", file=sys.stderr)
    elif args.json:
        for row in ranked:
            print_json(row)
    else:
        _show(args, [(row.id, row.score, row.document) for row in ranked])
    return 0


def _check_ranked(args: argparse.Namespace) -> None:
    if args.output.suffix.lower() != ".jsonl" or not args.output.parent.is_dir():
        raise CorpusError(f"-o {args.output} cannot be written; expected a name as in ranked.jsonl")
    check_free(args.output, overwrite=args.overwrite)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument(
        "--truncate",
        type=int,
        default=-1,
        metavar="K",
        help="keep K tokens of each text or pair; -1 (default) cuts to the limit",
    )
    parser.add_argument("--logits", action="store_true", help="logits instead of probabilities")
    parser.add_argument("--json", action="store_true", help="one JSON object per line on stdout")


def _judge_files(args: argparse.Namespace, names: list[str], task: CorpusTask) -> int:
    """Answer the rows of files."""
    check_destination(
        args,
        names[0],
        output="answers.jsonl",
        purpose="for",
        instead=", or --text to label the name itself" if task == "classify" else "",
    )
    if args.logits or args.truncate != -1:
        raise CorpusError("--logits and --truncate are for texts; expected neither for the rows of files")
    return run_job(args, names, Asking(task=task, prompt=getattr(args, "instruction", None)))


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="of files: .npy, .jsonl or .parquet to write"
    )
    add_corpus_arguments(parser)


def _add_pair_arguments(parser: argparse.ArgumentParser, documents: str = "+") -> None:
    _add_arguments(parser)
    parser.add_argument("query", metavar="QUERY", help="what the documents are scored for")
    parser.add_argument(
        "documents", metavar="DOCUMENT", nargs=documents, help="documents, or - for one per line of stdin"
    )
    parser.add_argument(
        "--instruction", metavar="TEXT", help="task description for an LLM reranker's template"
    )


def _load(args: argparse.Namespace) -> EdgeModel:
    return load(args, truncate_prompt_tokens=args.truncate)


def _score_params(args: argparse.Namespace) -> PoolingParams | None:
    return PoolingParams(use_activation=False) if args.logits else None


def _shows_progress(texts: list[str]) -> bool:
    return sys.stderr.isatty() and len(texts) > 1


def _show(args: argparse.Namespace, rows: Sequence[tuple[Identifier, float, str]]) -> None:
    for index, score, document in rows:
        if args.json:
            print_json({"index": index, "score": score, "document": document})
        else:
            print(f"{accent(f'{score:8.4f}')}  {dim(f'{index!s:>4}')}  {_shorten(document, 16)}")


def _shorten(text: str, taken: int = 0) -> str:
    line = " ".join(text.split())
    room = width() - taken
    return line if len(line) <= room else line[: room - 1] + "…"
