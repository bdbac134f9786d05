"""Files as input of `encode`, `classify` and `score`: their arguments, and the job that these describe."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from embedge._corpus.compute import Asking, CorpusTask
from embedge._corpus.inputs import FORMATS, STDIN, find_inputs, is_there, looks_like_a_file
from embedge._corpus.job import CHUNK, Job, OnError, answers, run
from embedge._corpus.journal import Counts
from embedge._corpus.precision import PRECISIONS
from embedge._corpus.records import Reading, known_total
from embedge._corpus.sinks import check_name
from embedge.cli._console import print_json
from embedge.cli._model import load
from embedge.errors import CorpusError
from embedge.model import EdgeModel

_REDRAW_S = 0.2
_LINE_EVERY_S = 10.0
_TRIVIAL_S = 2.0


def add_corpus_arguments(parser: argparse.ArgumentParser, *, embeds: bool = False) -> None:
    """Add the arguments that say how files are read, and rows written."""
    add_reading_arguments(parser)
    writing = parser.add_argument_group("output of files")
    writing.add_argument("--resume", action="store_true", help="go on with an output that was cut off")
    writing.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    writing.add_argument("--no-texts", action="store_true", help="leave the texts out of the output")
    writing.add_argument(
        "--chunk", type=int, default=CHUNK, metavar="N", help="texts that are committed together"
    )
    if embeds:
        writing.add_argument(
            "--precision",
            choices=PRECISIONS,
            default="float32",
            metavar="TYPE",
            help=", ".join(PRECISIONS),
        )
        writing.add_argument(
            "--long-text",
            choices=("error", "truncate", "mean"),
            default="truncate",
            metavar="HOW",
            help="texts beyond the model's limit: error, truncate (default), mean",
        )


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how files are read."""
    reading = parser.add_argument_group(
        "files", "where the arguments name files, folders or globs; - is stdin"
    )
    reading.add_argument("--column", metavar="NAME", help="of the texts, where there are several columns")
    reading.add_argument("--id-column", metavar="NAME", help="of the identifiers; default: the row's number")
    reading.add_argument(
        "--input-format",
        choices=sorted(set(FORMATS.values())),
        metavar="TYPE",
        help=f"{', '.join(sorted(set(FORMATS.values())))}; default: what the name's end says",
    )
    reading.add_argument("--text-per-file", action="store_true", help="a whole file is one text")
    reading.add_argument(
        "--encoding", default="utf-8", metavar="NAME", help="of files without a mark (default: %(default)s)"
    )
    reading.add_argument(
        "--encoding-errors",
        choices=("strict", "replace", "ignore"),
        default="strict",
        metavar="HOW",
        help="bytes that are not of it: strict (default), replace, ignore",
    )
    reading.add_argument(
        "--on-error",
        default="stop",
        metavar="HOW",
        help="bad rows: stop (default), skip, or a FILE.jsonl that tells of each",
    )


def add_texts_or_files(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that are texts, or the files that hold them."""
    parser.add_argument(
        "texts", metavar="TEXT|FILE", nargs="+", help="texts; or files, folders, globs, or - for stdin"
    )
    add_text_argument(parser)


def add_text_argument(parser: argparse.ArgumentParser) -> None:
    """Add what says that arguments which are names of files are texts."""
    parser.add_argument(
        "--text", action="store_true", help="the arguments are texts, whatever files are there"
    )


def names_files(args: argparse.Namespace) -> bool:
    """Whether these arguments are files to read, or texts; - alone is a file where rows are written or printed as JSON.

    Raises:
        CorpusError: some are, others are not, or what looks like a file's name is none.
    """
    names = args.documents if "documents" in args else args.texts
    if args.text or (names == [STDIN] and not _has_destination(args)):
        return False
    files = [name == STDIN or is_there(name) for name in names]
    if any(files) and not all(files):
        other = names[files.index(False)]
        raise CorpusError(
            f"{names[files.index(True)]} is a file and {other!r} is none; expected files or texts. Check the path, "
            "or pass --text where all of them are texts."
        )
    gone = [] if any(files) else list(filter(looks_like_a_file, names))
    if gone:
        raise CorpusError(
            f"there is no file {gone[0]}. Check the path, or pass --text to take its name as a text."
        )
    return any(files)


def check_destination(
    args: argparse.Namespace, name: str, *, output: str, purpose: str, instead: str = ""
) -> None:
    """Refuse to read a file where nothing says what its rows are for.

    Args:
        args: the command's.
        name: of the file.
        output: a name that -o might have.
        purpose: what is done to its rows, after "Pass -o or --json".
        instead: what else the name might be for.

    Raises:
        CorpusError: neither -o nor --json is given.
    """
    if not _has_destination(args):
        kind = "a folder" if Path(name).is_dir() else "a file"
        raise CorpusError(
            f"{name} is {kind}, and nothing says what becomes of its rows; expected -o {output} or --json {purpose} "
            f"them{instead}."
        )


def run_job(args: argparse.Namespace, names: list[str], asking: Asking) -> int:
    """Read files, compute their rows, and write or print them."""
    job = job_of(args, names, asking)
    if args.output is not None:
        check_name(job.output)  # before a model is loaded for nothing
    with load(args, profile="throughput") as model:  # a session for small calls would never be asked
        if args.output is None:
            return _print(model, job)
        meter = _Meter(known_total(job.files, job.reading))
        try:
            summary = run(model, job, meter.show)
        except (KeyboardInterrupt, OSError):
            meter.end()
            print(
                f"embedge: {args.output} is not done. Go on with it: the same command with --resume",
                file=sys.stderr,
            )
            raise
        meter.end()
    print(_in_words(summary.counts, summary.duration_s, summary.resumed_at), file=sys.stderr)
    print(f"wrote {summary.counts.written:,} rows to {args.output}", file=sys.stderr)
    return 0


def job_of(args: argparse.Namespace, names: list[str], asking: Asking) -> Job:
    """What the arguments ask for.

    Raises:
        CorpusError: a file or a value is not what was expected.
    """
    on_error: OnError = args.on_error if args.on_error in ("stop", "skip") else Path(args.on_error)
    if isinstance(on_error, Path) and on_error.suffix.lower() != ".jsonl":
        raise CorpusError(
            f"--on-error {args.on_error} is not known; expected stop, skip, or a file as in bad.jsonl"
        )
    chunk = getattr(args, "chunk", CHUNK)
    if chunk < 1:
        raise CorpusError(f"--chunk {chunk} is out of range; expected at least 1")
    return Job(
        files=find_inputs(names, args.input_format),
        reading=Reading(
            column=args.column,
            pair_column=getattr(args, "pair_column", None),
            id_column=args.id_column,
            text_per_file=args.text_per_file,
            encoding=args.encoding,
            encoding_errors=args.encoding_errors,
        ),
        asking=asking,
        output=args.output or Path(),
        precision=getattr(args, "precision", "float32"),
        keep_texts=not getattr(args, "no_texts", False),
        on_error=on_error,
        resume=getattr(args, "resume", False),
        overwrite=args.overwrite,
        chunk=chunk,
    )


def _print(model: EdgeModel, job: Job) -> int:
    """One JSON object for each row, as soon as it is there."""
    index = 0
    key = _KEYS[job.asking.task]
    # the first rows are not to wait for a full chunk
    for answered in answers(model, msgspec.structs.replace(job, chunk=min(job.chunk, 64))):
        for row, place in zip(answered.rows, answered.which, strict=True):
            line: dict[str, Any] = {"index": index, "id": index if row.identifier is None else row.identifier}
            if job.keep_texts:
                line["text"] = row.text
                if row.pair is not None:
                    line["pair"] = row.pair
            numbers = answered.numbers[place]
            line[key] = float(numbers[0]) if key == "score" else numbers.tolist()
            line["num_tokens"] = int(answered.tokens[place])
            line["num_truncated_tokens"] = int(answered.cut[place])
            print_json(line)
            index += 1
        for row in answered.rejected:
            print(f"embedge: {row.file}:{row.line}: {row.problem}; left out", file=sys.stderr)
    return 0


_KEYS: dict[CorpusTask, str] = {"embed": "embedding", "classify": "values", "score": "score"}


class _Meter:
    """A line that is drawn anew on a terminal, and written every ten seconds elsewhere."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._started = self._shown = time.perf_counter()
        self._first: Counts | None = None
        self._began = self._started
        self._live = sys.stderr.isatty()
        self._drawn = False

    def show(self, counts: Counts) -> None:
        """Tell how far the job is; nothing in its first seconds, which may be all of it."""
        now = time.perf_counter()
        if self._first is None:
            self._first, self._began = counts, now
        wait = _REDRAW_S if self._live else _LINE_EVERY_S
        if now - self._shown < wait or now - self._started < _TRIVIAL_S:
            return
        self._shown = now
        line = _in_words(counts, now - self._started, 0) + self._left(counts, now)
        sys.stderr.write(f"\r\033[K{line}" if self._live else f"{line}\n")
        sys.stderr.flush()
        self._drawn = self._live

    def _left(self, counts: Counts, now: float) -> str:
        """Time left, by the rate of this call since its first rows, where the number of rows is known."""
        assert self._first is not None
        done, seconds = counts.read - self._first.read, now - self._began
        if self._total is None or not done:
            return ""
        left_s = round(max(0, self._total - counts.read) * seconds / done)
        minutes, rest_s = divmod(left_s, 60)
        hours, minutes = divmod(minutes, 60)
        time_left = f"{hours}:{minutes:02}:{rest_s:02}" if hours else f"{minutes}:{rest_s:02}"
        return f", {counts.read / max(1, self._total):.0%} of {self._total:,}, {time_left} left"

    def end(self) -> None:
        """Leave the line."""
        if self._drawn:
            sys.stderr.write("\r\033[K")


def _in_words(counts: Counts, duration_s: float, resumed_at: int) -> str:
    done = counts.read - resumed_at
    parts = [f"{counts.read:,} rows", f"{counts.tokens:,} tokens"]
    if counts.rejected:
        parts.append(f"{counts.rejected:,} rejected")
    if counts.cut:
        parts.append(f"{counts.cut:,} cut at the limit")
    repeated = counts.written - counts.computed
    if repeated > 0:
        parts.append(f"{repeated:,} repeated")
    if resumed_at:
        parts.append(f"{resumed_at:,} of them before")
    parts.append(f"{duration_s:.1f} s, {done / max(duration_s, 1e-9):,.0f} rows/s")
    return ", ".join(parts)


def _has_destination(args: argparse.Namespace) -> bool:
    return args.output is not None or args.json
