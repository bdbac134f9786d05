"""Search the text files of a folder by meaning: a window, a worker thread, an index that grows with the folder.

    python file_search.py BUNDLE [FOLDER]

Nothing but Python, Tk and embedge. The window never computes: one thread reads, another looks for questions, with one
model, which lets the question come first; both tell the window through a queue. A new question ends the one before it;
Cancel and closing the window end whatever runs.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import tkinter as tk
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tkinter import filedialog, ttk

import numpy as np

from embedge import CallCancelledError, EdgeModel, EmbedgeError

SUFFIXES = {".md", ".rst", ".txt"}
SHORTEST = 20
"""Characters below which a paragraph is a heading or a scrap."""
PIECE = 256
"""Paragraphs between two looks at the folder's index: what is lost when the program is killed."""
TOP = 30
NOTHING = np.zeros((0, 0), np.float32)
Task = Callable[[threading.Event], None]


@dataclass
class Index:
    """Paragraphs of a folder's files and their vectors, kept in a file beside them.

    Attributes:
        folder: whose files are searched.
        fingerprint: of the bundle that made the vectors.
        files: size and time of change of each file that is in it, by its name.
        content: file and text of each paragraph, and their vectors, float32 (number of paragraphs, dim), unit length;
            replaced together, as another thread searches meanwhile.
    """

    folder: Path
    fingerprint: str
    files: dict[str, list[int]] = field(default_factory=dict)
    content: tuple[list[tuple[str, str]], np.ndarray] = field(default_factory=lambda: ([], NOTHING))

    @classmethod
    def open(cls, folder: Path, fingerprint: str) -> Index:
        """What was kept; empty where nothing was, or by another bundle."""
        try:
            kept = np.load(folder / ".file-search.npz")
            facts = json.loads(str(kept["facts"]))
        except (OSError, ValueError, KeyError):
            return cls(folder, fingerprint)
        if facts["fingerprint"] != fingerprint:
            return cls(folder, fingerprint)
        rows = [(name, text) for name, text in facts["rows"]]
        return cls(folder, fingerprint, facts["files"], (rows, kept["vectors"]))

    def save(self) -> None:
        """Replace what was kept, whole."""
        rows, vectors = self.content
        facts = {"fingerprint": self.fingerprint, "files": self.files, "rows": rows}
        part = self.folder / ".file-search.part.npz"
        np.savez(part, facts=json.dumps(facts), vectors=vectors)
        part.replace(self.folder / ".file-search.npz")

    def update(self, model: EdgeModel, stop: threading.Event, tell: Callable[[int, int], None]) -> int:
        """Forget files that are gone, embed those that are new or changed.

        Args:
            model: of the bundle with this fingerprint.
            stop: ends it at the next batch; what was done until then stays.
            tell: told paragraphs that are done, and all.

        Returns:
            How many paragraphs were embedded.
        """
        now = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in self._stats()}
        same = {name for name in now if self.files.get(name) == now[name]}
        rows, vectors = self.content
        kept = [place for place, (name, _) in enumerate(rows) if name in same]
        self.content = [rows[place] for place in kept], vectors[kept] if kept else NOTHING
        self.files = {name: now[name] for name in same}
        new = [(name, list(paragraphs(self.folder / name))) for name in now if name not in same]
        total, done = sum(len(texts) for _, texts in new), 0
        try:
            for batch in pieces(new):
                texts = [text for _, found in batch for text in found]
                if texts:
                    made = model.embed(texts, long_text="mean", cancel=stop).numpy()
                    rows, vectors = self.content
                    rows = rows + [(name, text) for name, found in batch for text in found]
                    self.content = rows, np.vstack([vectors, made]) if len(vectors) else made
                self.files |= {name: now[name] for name, _ in batch}
                done += len(texts)
                tell(done, total)
        finally:
            self.save()
        return done

    def search(self, model: EdgeModel, question: str, stop: threading.Event) -> list[tuple[float, str, str]]:
        """The nearest paragraphs: score, file, text."""
        rows, vectors = self.content
        if not rows:
            return []
        scores = vectors @ model.embed(question, cancel=stop).numpy()[0]
        return [(float(scores[place]), *rows[place]) for place in np.argsort(-scores)[:TOP]]

    def _stats(self) -> Iterator[tuple[str, object]]:
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path.relative_to(self.folder).as_posix(), path.stat()


def paragraphs(path: Path) -> Iterator[str]:
    """A file's paragraphs; blank lines are between them."""
    for part in path.read_text("utf-8", errors="replace").split("\n\n"):
        text = " ".join(part.split())
        if len(text) >= SHORTEST:
            yield text


def pieces(files: list[tuple[str, list[str]]]) -> Iterator[list[tuple[str, list[str]]]]:
    """Files together that have about PIECE paragraphs."""
    batch: list[tuple[str, list[str]]] = []
    for name, texts in files:
        batch.append((name, texts))
        if sum(len(found) for _, found in batch) >= PIECE:
            yield batch
            batch = []
    if batch:
        yield batch


class Lane(threading.Thread):
    """A thread that does what it was asked last; what it was asked before ends."""

    def __init__(self, told: queue.Queue) -> None:
        super().__init__()
        self._told = told
        self._tasks: queue.Queue[tuple[Task | None, threading.Event]] = queue.Queue()
        self._newest = threading.Event()  # ends the task that was asked for last
        self.start()

    def run(self) -> None:
        while True:
            task, stop = self._tasks.get()
            if task is None:
                return
            try:
                if not stop.is_set():
                    task(stop)
            except CallCancelledError:
                self._told.put(("cancelled",))
            except (EmbedgeError, OSError) as error:
                self._told.put(("status", str(error)))

    def begin(self, task: Task | None) -> None:
        """Do something; None ends the thread."""
        self._newest.set()
        self._newest = threading.Event()
        self._tasks.put((task, self._newest))

    def cancel(self) -> None:
        """End what runs."""
        self._newest.set()

    def close(self) -> None:
        """End what runs, and the thread."""
        self.begin(None)
        self.join()


class Worker:
    """What the window asks; every answer comes through `told`.

    Args:
        bundle: a bundle's folder, or its name in the store.
        told: where it puts ("status", text), ("progress", done, total), ("hits", question, rows) or ("cancelled",).
    """

    def __init__(self, bundle: str, told: queue.Queue) -> None:
        self.told = told
        self._bundle = bundle
        self._model: EdgeModel | None = None
        self._index: Index | None = None
        self._reading, self._asking = Lane(told), Lane(told)

    def read(self, folder: Path) -> None:
        """Bring the index of a folder up to date."""

        def task(stop: threading.Event) -> None:
            self._model = self._model or EdgeModel(self._bundle)
            self._index = Index.open(folder, self._model.info.fingerprint)
            new = self._index.update(self._model, stop, lambda *done: self.told.put(("progress", *done)))
            paragraphs, files = len(self._index.content[0]), len(self._index.files)
            self.told.put(("status", f"{paragraphs:,} paragraphs of {files:,} files, {new:,} of them new"))

        self._reading.begin(task)

    def search(self, question: str) -> None:
        """Look for a question; one that is under way is ended."""

        def task(stop: threading.Event) -> None:
            if self._model is not None and self._index is not None:
                self.told.put(("hits", question, self._index.search(self._model, question, stop)))

        self._asking.begin(task)

    def cancel(self) -> None:
        """End the reading; what was read until then stays."""
        self._reading.cancel()

    def close(self) -> None:
        """End what runs, and both threads."""
        self._reading.close()
        self._asking.close()
        if self._model is not None:
            self._model.close()


class Window:
    """The window; every method runs in Tk's thread."""

    def __init__(self, root: tk.Tk, bundle: str) -> None:
        self.root = root
        root.title("Search by meaning")
        root.geometry("900x560")
        root.protocol("WM_DELETE_WINDOW", self.close)
        self._told: queue.Queue = queue.Queue()
        self.worker = Worker(bundle, self._told)
        self.question = tk.StringVar()
        self.question.trace_add("write", lambda *_: self._ask_soon())
        self._waiting = ""

        bar = ttk.Frame(root, padding=8)
        bar.pack(fill="x")
        ttk.Button(bar, text="Folder…", command=self._choose).pack(side="left")
        entry = ttk.Entry(bar, textvariable=self.question, font=("TkDefaultFont", 12))
        entry.pack(side="left", fill="x", expand=True, padx=8)
        entry.focus()
        ttk.Button(bar, text="Cancel", command=self.worker.cancel).pack(side="left")

        self.hits = ttk.Treeview(root, columns=("score", "file", "text"), show="headings")
        for name, width in (("score", 60), ("file", 200), ("text", 600)):
            self.hits.heading(name, text=name, anchor="w")
            self.hits.column(name, width=width, stretch=name == "text", anchor="w")
        self.hits.pack(fill="both", expand=True, padx=8)

        foot = ttk.Frame(root, padding=8)
        foot.pack(fill="x")
        self.status = tk.StringVar(value="Choose a folder.")
        ttk.Label(foot, textvariable=self.status).pack(side="left", fill="x", expand=True)
        self.progress = ttk.Progressbar(foot, length=200)
        self.progress.pack(side="right")
        self._poll()

    def open_folder(self, folder: Path) -> None:
        """Read a folder, or what has changed in it."""
        self.root.title(f"Search by meaning: {folder}")
        self.status.set("Reading…")
        self.worker.read(folder)

    def close(self) -> None:
        """End the worker and the window."""
        self.root.after_cancel(self._polling)
        self.worker.close()
        self.root.destroy()

    def _choose(self) -> None:
        folder = filedialog.askdirectory()
        if folder:
            self.open_folder(Path(folder))

    def _ask_soon(self) -> None:
        if self._waiting:
            self.root.after_cancel(self._waiting)
        self._waiting = self.root.after(120, self._ask)

    def _ask(self) -> None:
        self._waiting = ""
        if self.question.get().strip():
            self.worker.search(self.question.get())

    def _poll(self) -> None:
        while not self._told.empty():
            what, *values = self._told.get_nowait()
            if what == "status":
                self.status.set(values[0])
                self.progress["value"] = 0
                self._ask_soon()
            elif what == "progress":
                done, total = values
                self.progress["maximum"], self.progress["value"] = max(total, 1), done
            elif what == "cancelled":
                self.progress["value"] = 0
            elif values[0] == self.question.get():  # else another question was asked since
                self.hits.delete(*self.hits.get_children())
                for score, file, text in values[1]:
                    self.hits.insert("", "end", values=(f"{score:.2f}", file, text))
        self._polling = self.root.after(40, self._poll)


def main() -> None:
    if len(sys.argv) not in (2, 3):
        raise SystemExit("usage: python file_search.py BUNDLE [FOLDER]")
    root = tk.Tk()
    window = Window(root, sys.argv[1])
    if len(sys.argv) == 3:
        window.open_folder(Path(sys.argv[2]))
    root.mainloop()


if __name__ == "__main__":
    main()
