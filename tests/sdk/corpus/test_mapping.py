"""Maps: the directions in which rows differ most, and a page that shows them without any other file."""

from __future__ import annotations

import html.parser
import importlib.util
import json
import re

import numpy as np
import pytest
from tests import chromium
from tests.sdk.corpus.test_searching import sidecar

from embedge import CorpusError, MissingExtraError
from embedge._corpus import kept as kept_rows
from embedge._corpus.kept import Kept
from embedge._corpus.mapping import _points, draw_map, principal_components
from embedge._corpus.precision import quantize
from embedge._corpus.stored import Entry, Opened
from embedge.cli.main import main
from embedge.corpus import encode_files

ROWS = (np.random.default_rng(3).normal(size=(500, 40)) * np.linspace(0.1, 2, 40) ** 3).astype(np.float32)
TEXTS = ("</script><b>bold</b>", "zwölf “words”", "", "four\nlines")

# moves over the whole canvas and notes each text, zooms, and looks for a word; the page itself knows nothing of it
TRIED = """<script>
const seen = new Set();
const sent = (name, x, y, more) => canvas.dispatchEvent(new (name === "wheel" ? WheelEvent : PointerEvent)(
  name, { clientX: canvas.getBoundingClientRect().left + x, clientY: canvas.getBoundingClientRect().top + y,
  pointerId: 1, cancelable: true, ...more }));
const look = () => {
  seen.clear();
  for (let x = 0; x < width; x += 6) for (let y = 0; y < height; y += 6) {
    sent("pointermove", x, y);
    if (told.style.display === "block") seen.add(told.textContent);
  }
  return [...seen].sort();
};
const result = { before: look() };
sent("wheel", EDGE, height - EDGE, { deltaY: -4000 });
result.zoom = zoom;
result.after = look();
sent("pointerdown", 20, 20); sent("pointermove", 50, 60); sent("pointerup", 50, 60);
result.moved = [left, top_];
document.getElementById("all").click();
result.all = [zoom, left, top_];
search.value = "WORDS"; search.dispatchEvent(new Event("input"));
result.counted = counted.textContent;
draw();
result.painted = pen.getImageData(0, 0, canvas.width, canvas.height).data.some(value => value > 0);
result.bold = document.querySelectorAll("body b").length - 1;
document.title = "tried " + encodeURIComponent(JSON.stringify(result));
</script>"""


def opened(count, texts=None):
    entries = [Entry(id=f"r{n}", text=texts[n] if texts else None) for n in range(count)]
    return Opened(sidecar=sidecar("float32", num_rows=count), rows=ROWS[:count], entries=entries)


@pytest.mark.parametrize("precision", ["float32", "binary"])
def test_components_are_those_of_a_singular_value_decomposition(monkeypatch, precision) -> None:
    monkeypatch.setattr(kept_rows, "_BLOCK", 64)
    kept = Kept(rows=quantize(ROWS, precision), sidecar=sidecar(precision, num_rows=500))
    places = np.arange(0, 500, 2)
    points, share = principal_components(kept, places)
    numbers = kept.numbers(places).astype(np.float64)
    left, values, _ = np.linalg.svd(numbers - numbers.mean(0), full_matrices=False)
    expected = left[:, :2] * values[:2]
    np.testing.assert_allclose(np.abs(points), np.abs(expected), rtol=1e-3, atol=1e-4)
    assert share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), rel=1e-5)


def test_rows_that_are_all_alike() -> None:
    kept = Kept(rows=np.ones((5, 40), dtype=np.float32), sidecar=sidecar("float32", num_rows=5))
    points, _ = principal_components(kept, np.arange(5))
    assert np.isfinite(points).all()


class Links(html.parser.HTMLParser):
    """What a page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]


def test_a_page_holds_all_it_needs_and_no_text_ends_it() -> None:
    page, how = draw_map(opened(4, TEXTS), "pca", 100)
    assert "principal components" in how
    links = Links()
    links.feed(page)
    assert links.found == []
    assert page.count("</script>") == 2
    data = json.loads(re.search(r'id="data">(.*)</script>', page)[1])
    assert tuple(data["texts"]) == TEXTS
    assert (min(data["x"]), max(data["x"])) == (0, 1)


def test_more_rows_than_points_are_taken_evenly() -> None:
    page, how = draw_map(opened(101), "pca", 11)
    data = json.loads(re.search(r'id="data">(.*)</script>', page)[1])
    assert data["ids"] == [f"r{n}" for n in range(0, 101, 10)]
    assert "11 of 101 rows" in how


@chromium.needs_chromium
def test_a_browser_shows_texts_zooms_and_finds(tmp_path) -> None:
    page, _ = draw_map(opened(4, TEXTS), "pca", 100)
    (tmp_path / "map.html").write_text(page.replace("</body>", f"{TRIED}</body>"), "utf-8")
    result = json.loads(chromium.title(tmp_path / "map.html", "--window-size=900,700", word="tried "))
    assert result["before"] == sorted(f"r{n}{text}" for n, text in enumerate(TEXTS))
    assert result["zoom"] > 100
    assert len(result["after"]) < 4  # the others are beyond the edge
    assert result["moved"] != [0, 0]
    assert result["all"] == [1, 0, 0]
    assert result["counted"] == "1 found"
    assert result["painted"]
    assert result["bold"] == 0  # a text's own tags are text


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="umap-learn is installed")
def test_without_umap() -> None:
    assert "principal components" in draw_map(opened(5), "auto", 100)[1]
    with pytest.raises(MissingExtraError, match="pip install umap-learn"):
        draw_map(opened(5), "umap", 100)


def test_with_umap() -> None:
    pytest.importorskip("umap", reason="needs umap-learn")
    page, how = draw_map(opened(200), "auto", 100)
    assert how.startswith("UMAP")
    assert page == draw_map(opened(200), "umap", 100)[0]
    assert page != draw_map(opened(200), "pca", 100)[0]
    for count in (3, 4, 5):  # fewer than it likes to begin with
        assert draw_map(opened(count), "umap", 100)[1].startswith("UMAP")


def test_umap_keeps_neighbours_together() -> None:
    pytest.importorskip("umap", reason="needs umap-learn")
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(4, 40))
    rows = (np.repeat(centres, 30, 0) + rng.normal(size=(120, 40)) * 0.1).astype(np.float32)
    points, _ = _points(Kept(rows=rows, sidecar=sidecar("float32", num_rows=120)), np.arange(120), "umap")
    away = np.linalg.norm(points[:, None] - points[None], axis=2)
    nearest = np.argsort(away, axis=1)[:, 1:6]
    assert (nearest // 30 == np.arange(120)[:, None] // 30).mean() > 0.95


def test_the_command(load, tmp_path, capsys) -> None:
    (tmp_path / "a.txt").write_text("good food\nbad water\nold house\n")
    encode_files(load(), tmp_path / "a.txt", tmp_path / "a.npy")
    command = ["map", str(tmp_path / "a.npy"), "--method", "pca", "-o"]
    assert main([*command, str(tmp_path / "map.html")]) == 0
    assert "bad water" in (tmp_path / "map.html").read_text("utf-8")
    capsys.readouterr()
    for arguments, message in (
        (("map.html",), "is there already"),
        (("map.txt",), "expected a name as in map.html"),
        (("b.html", "--limit", "2"), "--limit 2 makes no map"),
    ):
        assert main([*command, str(tmp_path / arguments[0]), *arguments[1:]]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(CorpusError, match="2 rows make no map"):
        draw_map(opened(2), "pca", 100)


def test_one_component_makes_no_map() -> None:
    entries = [Entry(id=f"r{n}", text=None) for n in range(4)]
    line = Opened(sidecar=sidecar("float32", num_rows=4, dimensions=1), rows=ROWS[:4, :1], entries=entries)
    with pytest.raises(CorpusError, match="rows of one component make no map; expected at least 2"):
        draw_map(line, "pca", 100)
