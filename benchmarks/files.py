"""`python -m benchmarks.files BUNDLE FOLDER`: files of many texts, and of one very long one, through `embedge encode`.

Its parts run alone, too, with --only, and put their figures beside those that are in the output already:

unbroken  a million short texts from Parquet to Parquet, while the process's memory is watched
broken    the same, killed three times and gone on with; the output is compared with the unbroken one byte by byte
rate      a tenth of the texts, and the same through EdgeModel.stream alone, in turns; needs a calm machine
line      a line of 50 MB, of words, letters without spaces, Han or emoji, cut to the model's limit

Each run is a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.watched import Watched

WORDS = [word for word in Path(__file__).read_text().split() if word.isalpha()]
FIRST_MINUTE_S = 60
LETTERS = {
    "no spaces": "abcdefghijklmnopqrstuvwxyz0123456789+/",
    "han": "天地玄黃宇宙洪荒日月盈昃辰宿列張",
    "emoji": "😀🎉🚀🌍👍🏽❤️👩‍💻",
}
"""What lines without words are made of."""


def write_texts(file: Path, num_rows: int) -> None:
    """Texts as short as titles or what people search for, about six tokens, each another."""
    import pyarrow
    import pyarrow.parquet

    rng = random.Random(1)
    schema = pyarrow.schema({"text": pyarrow.string()})
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, num_rows, 10_000):
            count = min(10_000, num_rows - start)
            texts = [f"{' '.join(rng.choices(WORDS, k=rng.randint(1, 3)))} {start + n}" for n in range(count)]
            writer.write_table(pyarrow.table({"text": texts}, schema))


def write_line(file: Path, kind: str, size: int) -> None:
    """One line of so many bytes of UTF-8, more or less."""
    rng = random.Random(1)
    if kind.startswith("words"):
        piece = " ".join(rng.choices(WORDS, k=100_000)) + (" 😀 " if kind == "words, an emoji" else " ")
    else:
        piece = "".join(rng.choices(LETTERS[kind], k=100_000))
    file.write_text(piece * (size // len(piece.encode()) + 1) + "\n", encoding="utf-8")


def stream_alone(bundle: str, file: Path, variant: str) -> dict:
    """Rows and seconds of EdgeModel.stream over texts that were read before."""
    import pyarrow.parquet

    from embedge import EdgeModel

    texts = pyarrow.parquet.read_table(file).column("text").to_pylist()
    with EdgeModel(bundle, device="cpu", variant=variant) as model:
        model.embed(texts[:2048])
        started, cpu = time.perf_counter(), time.process_time()
        count = sum(1 for _ in model.stream(texts, truncate_prompt_tokens=-1, window=2048))
        return {
            "rows": count,
            "wall_s": time.perf_counter() - started,
            "cpu_s": time.process_time() - cpu,
        }


def encode(arguments: list[str]) -> Watched:
    """`embedge encode`, begun."""
    return Watched([sys.executable, "-m", "embedge", "encode", *arguments])


def alone_s(bundle: list[str], folder: Path) -> float:
    """Seconds that the model alone takes for the texts of a folder, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.files",
        bundle[0],
        str(folder),
        "--stream-alone",
        *bundle[1:],
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(told)["wall_s"]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _rows_done(output: Path) -> int:
    """Rows that are committed of an unfinished output."""
    try:
        return json.loads(output.with_name(f"{output.name}.job").read_bytes())["counts"]["read"]
    except FileNotFoundError:
        return 0


def unbroken(bundle: list[str], folder: Path, num_rows: int) -> dict:
    """Figures of a run from beginning to end."""
    texts, whole = folder / "texts.parquet", folder / "whole.parquet"
    write_texts(texts, num_rows)
    watched = encode([*bundle, str(texts), "-o", str(whole), "--overwrite"])
    done = watched.wait()
    # what is watched of a shorter run begins after a tenth of it
    settled_s = min(FIRST_MINUTE_S, done["wall_s"] / 10)
    later = [rss for at, rss in watched.samples if at >= settled_s and rss]
    return {
        "rows": num_rows,
        "wall_s": round(done["wall_s"], 1),
        "cpu_s": round(done["cpu_s"], 1),
        "rows_per_s": round(num_rows / done["wall_s"]),
        "settled_after_s": round(settled_s),
        "rss_settled_mb": round(later[0]),
        "rss_at_end_mb": round(later[-1]),
        "rss_largest_after_mb": round(max(later)),
        "rss_grew_mb": round(max(later) - later[0]),
        "sha256": _sha256(whole),
    }


def broken(bundle: list[str], folder: Path, num_rows: int) -> dict:
    """Figures of a run that is killed three times, by the rows that are done, and gone on with."""
    import pyarrow.parquet

    texts, output, whole = (folder / f"{name}.parquet" for name in ("texts", "broken", "whole"))
    if not whole.exists() or pyarrow.parquet.read_metadata(whole).num_rows != num_rows:
        raise SystemExit(f"{whole} does not hold {num_rows} rows; expected what `--only unbroken` writes")
    write_texts(texts, num_rows)
    statuses, at = [], []
    for share in (0.2, 0.45, 0.7, None):
        how = "--resume" if statuses else "--overwrite"
        due = None if share is None else (lambda rows=share * num_rows: _rows_done(output) >= rows)
        statuses.append(encode([*bundle, str(texts), "-o", str(output), how]).wait(due)["status"])
        at.append(_rows_done(output) or num_rows)
    return {
        "rows": num_rows,
        "ended_with": statuses,
        "rows_committed": at,
        "sha256": _sha256(output),
        "is_the_same_as_unbroken": _sha256(whole) == _sha256(output),
    }


def rate(bundle: list[str], folder: Path, num_rows: int) -> dict:
    """Figures of a tenth of the rows, in turns with the model alone."""
    folder = folder / "rate"
    folder.mkdir(exist_ok=True)
    texts, count = folder / "texts.parquet", max(1, num_rows // 10)
    write_texts(texts, count)
    walls: dict[str, list[float]] = {"command": [], "model": []}
    for _ in range(3):
        done = encode([*bundle, str(texts), "-o", str(folder / "out.parquet"), "--overwrite"]).wait()
        walls["command"].append(done["wall_s"])
        walls["model"].append(alone_s(bundle, folder))
    command_s, model_s = (min(times) for times in walls.values())
    return {
        "rows": count,
        "rows_per_s": round(count / command_s),
        "model_alone_rows_per_s": round(count / model_s),
        "wall_to_alone": round(command_s / model_s, 3),
    }


def line(bundle: list[str], folder: Path, size_mb: int) -> dict:
    """Figures of a line of each kind, and of a short one beside it."""
    figures = {}
    for kind, size in (
        ("short", 100),
        *((kind, size_mb * 1_000_000) for kind in ("words", "words, an emoji", *LETTERS)),
    ):
        file = folder / f"{kind.replace(', ', '_').replace(' ', '_')}.txt"
        write_line(file, "words" if kind == "short" else kind, size)
        done = encode([*bundle, str(file), "-o", str(file.with_suffix(".npy")), "--overwrite"]).wait()
        figures[kind] = {"wall_s": round(done["wall_s"], 2), "peak_mb": round(done["peak_mb"])}
        file.unlink()
    return {"line_mb": size_mb, **figures}


PARTS = {"unbroken": unbroken, "broken": broken, "rate": rate, "line": line}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.files",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle")
    parser.add_argument("folder", type=Path, help="where files are written")
    parser.add_argument("--variant", default="auto", help="of the bundle")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--line-mb", type=int, default=50)
    parser.add_argument("--only", choices=tuple(PARTS), nargs="+", default=tuple(PARTS))
    parser.add_argument(
        "-o", "--output", type=Path, help="where figures go, as benchmarks/results/files.json"
    )
    parser.add_argument("--stream-alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stream_alone:
        print(json.dumps(stream_alone(args.bundle, args.folder / "texts.parquet", args.variant)))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    bundle = [args.bundle, "--variant", args.variant]
    figures = json.loads(args.output.read_bytes()) if args.output and args.output.exists() else {}
    for name in args.only:
        size = args.line_mb if name == "line" else args.rows
        figures[name] = PARTS[name](bundle, args.folder, size) | {"machine": machine()}
        if args.output:
            args.output.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(figures, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
