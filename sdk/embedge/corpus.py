"""Files of texts to rows of numbers on disk, and search over them, from Python.

`encode_files` writes what `embedge encode FILES -o OUTPUT` writes; `Vectors.open(OUTPUT).search(model, question)` looks
through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Literal, cast

from embedge._corpus.comparing import Duplicate
from embedge._corpus.compute import Asking, CorpusTask
from embedge._corpus.inputs import Format, find_inputs
from embedge._corpus.job import CHUNK, Job, OnError, Summary, run
from embedge._corpus.journal import Counts
from embedge._corpus.precision import PRECISIONS, Precision
from embedge._corpus.records import Reading
from embedge._corpus.sidecar import Sidecar
from embedge._corpus.stored import Entry
from embedge._corpus.vectors import Hit, Vectors
from embedge._plain import plain
from embedge.errors import CorpusError
from embedge.model import EdgeModel
from embedge.types import LongText

__all__ = ["Counts", "Duplicate", "Entry", "Hit", "Sidecar", "Summary", "Vectors", "encode_files"]


def encode_files(
    model: EdgeModel,
    inputs: str | PathLike[str] | Iterable[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    task: CorpusTask = "embed",
    column: str | None = None,
    pair_column: str | None = None,
    id_column: str | None = None,
    input_format: Format | None = None,
    text_per_file: bool = False,
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    precision: Precision = "float32",
    dimensions: int | None = None,
    normalize: bool | None = None,
    tower: str | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
    long_text: LongText = "truncate",
    keep_texts: bool = True,
    on_error: Literal["stop", "skip"] | PathLike[str] = "stop",
    resume: bool = False,
    overwrite: bool = False,
    chunk: int = CHUNK,
    progress: Callable[[Counts], None] | None = None,
) -> Summary:
    """Compute a row for each text of files and write them, in memory that does not grow with their number.

    Rows come in the order of the input. Whatever ends the process, what was committed stays: call again with `resume`.

    Args:
        model: the loaded model.
        inputs: files, folders, globs, or "-" for stdin; .txt (a text on each line), .jsonl, .csv, .tsv, .parquet.
        output: its name's end decides: .npy (what is known of each row in FILE.npy.rows.jsonl, facts in FILE.npy.json),
            .jsonl or .parquet.
        task: "embed", "classify", or "score" for pairs.
        column: of the texts; None takes "text", "sentence" or "content", or the only one.
        pair_column: of the second text of each pair.
        id_column: of the identifiers; None numbers the rows.
        input_format: of all files, against their names.
        text_per_file: a whole file is one text, and its path the identifier.
        encoding: as for `open`; a mark at the start of a file comes before.
        encoding_errors: as for `open`; "strict" makes a bad row of what is not of the encoding.
        precision: how a component is stored, as sentence-transformers' quantize_embeddings packs it. int8 and uint8
            store steps between the smallest and the largest value in the first chunk.
        dimensions: as for PoolingParams.
        normalize: as for PoolingParams.
        tower: as for EdgeModel.embed; None takes that of documents, where there are several.
        prompt_name: as for EdgeModel.embed.
        prompt: as for EdgeModel.embed.
        long_text: as for EdgeModel.embed.
        keep_texts: write the texts beside the rows, so that a search can show them.
        on_error: what becomes of rows that cannot be used: "stop", "skip", or a .jsonl file that tells of them.
        resume: go on with an unfinished output; begin where there is none.
        overwrite: replace an output.
        chunk: different texts that are computed and committed together.
        progress: told the counts after each chunk.

    Returns:
        What was done.

    Raises:
        CorpusError: an input, a row or the output is not what was expected.
        ParamsError, PromptError, TaskNotSupportedError, SessionError: as for EdgeModel.encode.
        MissingExtraError: Parquet, and pyarrow is not installed.
        OSError: a file cannot be read or written.
    """
    if precision not in PRECISIONS:
        raise CorpusError(f"precision={precision!r} is not known; expected one of {', '.join(PRECISIONS)}")
    if precision != "float32" and task != "embed":
        raise CorpusError(f"precision={precision!r} is for embeddings; expected float32 for task {task!r}")
    if (pair_column is not None) != (task == "score"):
        raise CorpusError(
            f"pair_column={pair_column!r} is given for task {task!r}; expected pairs for score, and only there"
        )
    chunk = plain(chunk)
    if type(chunk) is not int or chunk < 1:
        raise CorpusError(f"chunk={chunk!r} is out of range; expected an int >= 1")
    names = [inputs] if isinstance(inputs, str | PathLike) else list(inputs)
    job = Job(
        files=find_inputs([str(name) for name in names], input_format),
        reading=Reading(
            column=column,
            pair_column=pair_column,
            id_column=id_column,
            text_per_file=text_per_file,
            encoding=encoding,
            encoding_errors=encoding_errors,
        ),
        asking=Asking(
            task=task,
            dimensions=dimensions,
            normalize=normalize,
            tower=tower,
            prompt_name=prompt_name,
            prompt=prompt,
            long_text=long_text,
        ),
        output=Path(output),
        precision=precision,
        keep_texts=keep_texts,
        on_error=_on_error(on_error),
        resume=resume,
        overwrite=overwrite,
        chunk=chunk,
    )
    return run(model, job, progress)


def _on_error(word: str | PathLike[str]) -> OnError:
    return cast("OnError", word if word in ("stop", "skip") else Path(word))
