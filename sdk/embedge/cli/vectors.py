"""Commands on saved vectors: `embedge quantize | dedup | similar | map | index`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

import msgspec

from embedge._corpus.handover import IndexFormat, hand_over
from embedge._corpus.journal import check_free
from embedge._corpus.mapping import MapMethod, draw_map
from embedge._corpus.precision import PRECISIONS
from embedge._corpus.stored import open_output
from embedge._machine.cpu import available_threads
from embedge._replacing import replace_whole
from embedge.cli._console import accent, bold, dim, print_json, width
from embedge.cli._parser import Parser
from embedge.corpus import Entry, Vectors
from embedge.errors import CorpusError

_WRITTEN = 'what "embedge encode FILES -o VECTORS" wrote'


def add_parsers(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `quantize`, `dedup`, `similar`, `map` and `index`."""
    quantize = _add_command(
        commands,
        "quantize",
        summary="store saved vectors in fewer bytes",
        description='Store saved vectors once more in fewer bytes. "embedge search SMALL … --rescore VECTORS" looks '
        "through the small ones, and lets the others decide between the nearest.",
    )
    quantize.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="as of encode")
    quantize.add_argument(
        "--precision", choices=PRECISIONS, required=True, metavar="TYPE", help=", ".join(PRECISIONS)
    )
    _add_overwrite(quantize, "an output")
    quantize.set_defaults(run=_run_quantize)

    dedup = _add_command(
        commands,
        "dedup",
        summary="find near duplicates among saved vectors",
        description="Tell of every row that is near an earlier one, by cosine; -o writes the others. Each row is "
        "compared with all that are kept before it: the work grows with the square of their number.",
    )
    dedup.add_argument(
        "--threshold",
        type=float,
        default=0.95,
        metavar="COSINE",
        help="cosine from which rows are near (default: %(default)s)",
    )
    dedup.add_argument("--json", action="store_true", help="one JSON object per duplicate on stdout")
    dedup.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the rows without duplicates")
    _add_overwrite(dedup, "an output")
    dedup.set_defaults(run=_run_dedup)

    similar = commands.add_parser(
        "similar",
        help="find the nearest saved vectors for saved vectors",
        description="For each row of A the nearest rows of B, by cosine; where both are one file, the nearest others.",
    )
    similar.add_argument("asked", type=Path, metavar="A", help=_WRITTEN)
    similar.add_argument("others", type=Path, metavar="B", help="likewise, by the same bundle")
    similar.add_argument(
        "--top", type=int, default=1, metavar="N", help="rows of B for each of A (default: %(default)s)"
    )
    similar.add_argument("--least", type=float, default=-1.0, metavar="COSINE", help="show none below")
    similar.add_argument("--json", action="store_true", help="one JSON object per row of A on stdout")
    similar.set_defaults(run=_run_similar)

    _add_written_for_others(commands)


def _add_written_for_others(commands: argparse._SubParsersAction[Parser]) -> None:
    drawn = _add_command(
        commands,
        "map",
        summary="draw saved vectors as points of a page",
        description="Write a page, without any other file, that shows rows as points: zoom, search, and texts.",
    )
    drawn.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="map.html")
    drawn.add_argument(
        "--method",
        choices=get_args(MapMethod),
        default="auto",
        metavar="NAME",
        help="pca, umap, or auto (default), which takes UMAP where umap-learn is installed",
    )
    drawn.add_argument(
        "--limit", type=int, default=50_000, metavar="N", help="points at most (default: %(default)s)"
    )
    _add_overwrite(drawn, "a page")
    drawn.set_defaults(run=_run_map)

    index = _add_command(
        commands,
        "index",
        summary="write saved vectors for another library's search",
        description="Write an index that usearch, faiss or lancedb opens; its keys are the numbers of rows. INDEX.json "
        "beside it says what made the rows.",
    )
    index.add_argument(
        "-o", "--output", type=Path, required=True, metavar="INDEX", help="a file; of lancedb a folder"
    )
    index.add_argument(
        "--format",
        choices=get_args(IndexFormat),
        required=True,
        metavar="NAME",
        help=", ".join(get_args(IndexFormat)),
    )
    _add_overwrite(index, "an index")
    index.set_defaults(run=_run_index)


def _add_command(
    commands: argparse._SubParsersAction[Parser],
    name: str,
    *,
    summary: str,
    description: str,
) -> argparse.ArgumentParser:
    """A command on one output."""
    parser = commands.add_parser(name, help=summary, description=description)
    parser.add_argument("vectors", type=Path, metavar="VECTORS", help=_WRITTEN)
    return parser


def _add_overwrite(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what} that is there")


def _run_quantize(args: argparse.Namespace) -> int:
    made = Vectors.open(args.vectors).quantize(args.output, args.precision, overwrite=args.overwrite)
    print(f"wrote {len(made):,} rows in {args.precision} to {args.output}", file=sys.stderr)
    return 0


def _run_dedup(args: argparse.Namespace) -> int:
    if args.output is not None:
        check_free(args.output, overwrite=args.overwrite)
    vectors = Vectors.open(args.vectors)
    found = vectors.duplicates(args.threshold, threads=available_threads())
    for each in found:
        row, of = vectors.entry(each.row), vectors.entry(each.of)
        if args.json:
            told = {"row": each.row, "id": row.id, "text": row.text, "score": each.score}
            print_json(told | {"of_row": each.of, "of_id": of.id, "of_text": of.text})
        else:
            print(f"{accent(f'{each.score:6.4f}')}  {_name(row)}")
            print(dim(f"  near  {_name(of)}"))
    print(
        f"{len(found):,} of {len(vectors):,} rows are near an earlier one, {len(vectors) - len(found):,} are not",
        file=sys.stderr,
    )
    if args.output is not None:
        made = vectors.write_without((each.row for each in found), args.output, overwrite=args.overwrite)
        print(f"wrote {len(made):,} rows to {args.output}", file=sys.stderr)
    return 0


def _run_similar(args: argparse.Namespace) -> int:
    asked = Vectors.open(args.asked)
    others = asked if args.asked.resolve() == args.others.resolve() else Vectors.open(args.others)
    rows = asked.similar(others, top=args.top, threads=available_threads())
    for index, hits in enumerate(rows):
        shown = [hit for hit in hits if hit.score >= args.least]
        entry = asked.entry(index)
        if args.json:
            told = {"row": index, "id": entry.id, "text": entry.text}
            print_json(told | {"rows": [msgspec.to_builtins(hit) for hit in shown]})
        elif shown:
            print(bold(_name(entry)))
            for hit in shown:
                name = _name(Entry(id=hit.id, text=hit.text))
                print(f"  {accent(f'{hit.score:6.4f}')}  {name}")
    return 0


def _run_map(args: argparse.Namespace) -> int:
    if args.output.suffix.lower() not in (".html", ".htm") or not args.output.parent.is_dir():
        raise CorpusError(f"-o {args.output} cannot be written; expected a name as in map.html")
    check_free(args.output, overwrite=args.overwrite)
    if args.limit < 3:
        raise CorpusError(f"--limit {args.limit} makes no map; expected at least 3")
    page, how = draw_map(open_output(args.vectors), args.method, args.limit)
    replace_whole(args.output, page.encode())
    print(f"wrote {args.output}: {how}", file=sys.stderr)
    return 0


def _run_index(args: argparse.Namespace) -> int:
    opened = open_output(args.vectors)
    hand_over(opened, args.output, args.format, overwrite=args.overwrite)
    print(f"wrote {len(opened.rows):,} rows to {args.output} for {args.format}", file=sys.stderr)
    return 0


def _name(entry: Entry) -> str:
    """Identifier and text of a row, in a line."""
    line = " ".join(f"{entry.id}  {entry.text or ''}".split())
    room = width() - 8
    return line if len(line) <= room else line[: room - 1] + "…"
