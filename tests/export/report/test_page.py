"""The report's page: complete, self-contained, readable at a phone's width."""

import html
import html.parser
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from tests import chromium
from tests.export.report.reported import KINDS, reported

from embedge.cli.main import main
from embedge.testing import tiny_bundle
from embedge_export.report.operators import machine


class Strict(html.parser.HTMLParser):
    """Every element is closed in order, and nothing is fetched."""

    VOID = frozenset({"meta", "br", "hr", "wbr"})
    EMPTY = frozenset({"rect", "circle", "line"})

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in self.EMPTY

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_well_formed_self_contained_page(kind, tmp_path):
    _, page, _ = reported(tmp_path, kind)
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    assert parser.links == []
    assert not parser.tags & {"script", "link", "img", "iframe", "object"}
    assert "url(" not in page
    assert "@import" not in page
    for heading in ("The model", "Fidelity", "Size and speed", "Operators", "How it was made", "Limits"):
        assert f"<h2>{heading}</h2>" in page
    assert ("<h2>Retrieval</h2>" in page) == (kind not in ("classify", "token_classify"))
    # each variant against its reference; of embedders the similarities of pairs too, where that is fp32
    assert page.count("<svg") == (3 if kind in ("embed", "sparse") else 2)
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).lower().replace(
        "finance", ""
    )


def test_the_page_shows_the_manifests_figures(embedder):
    _, manifest, page, _ = embedder
    figures = manifest.variants["same"].fidelity.end_to_end
    assert f"<td>{figures.ndcg_10:.4f}</td>" in page
    assert f"<td>{figures.spearman:.4f}</td>" in page
    assert "fp32 <small>" in page
    assert figures.texts_sha256 in page
    assert manifest.fingerprint[:16] in page
    assert f"<dt>checkpoint</dt><dd>{manifest.source.name}</dd>" in page
    assert "queries were asked over" in page
    assert "--full-report asks the whole set of 1,024." in page
    assert f"embedge export {manifest.source.name} --max-seq-len 32" in page
    assert machine() in page


def test_what_the_checkpoint_says_is_shown_as_text(tmp_path):
    name = 'a<script>alert("x")</script>|b'
    _, page, readme = reported(tmp_path, "embed", name=name, prompts={"query": "<b>find</b> "})
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<b>find" not in page
    assert not re.search(r"(?<!\\)<", readme)


def test_inspect_prints_where_the_report_is(embedder, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    folder = embedder[0]
    assert main(["inspect", str(folder), "--report"]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"


def test_inspect_opens_the_report_where_there_is_a_display(embedder, capsys, monkeypatch):
    opened = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["inspect", str(embedder[0]), "--report"]) == 0
    assert opened == [(embedder[0] / "report.html").as_uri()]


def test_inspect_says_that_there_is_no_report(tmp_path, capsys):
    assert main(["inspect", str(tiny_bundle(tmp_path)), "--report"]) == 1
    assert "has no report.html" in capsys.readouterr().err


def screenshot(page: Path, target: Path, width: int, height: int) -> np.ndarray:
    """Pixels (height, width, channels) of a page as headless Chromium draws it."""
    chromium.run(page, target.parent, f"--window-size={width},{height}", f"--screenshot={target}")
    return read_png(target.read_bytes())


def read_png(data: bytes) -> np.ndarray:
    """Decode an 8-bit PNG without interlacing; the project has no imaging library."""
    position, packed, width, height, channels = 8, b"", 0, 0, 0
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            width, height, _, colour = struct.unpack(">IIBB", body[:10])
            channels = {2: 3, 6: 4}[colour]
        elif kind == b"IDAT":
            packed += body
        position += length + 12
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    pixels = np.zeros((height + 1, width + 1, channels), np.int16)
    for y in range(height):
        line = rows[y, 1:].reshape(width, channels).astype(np.int16)
        above = pixels[y]
        filtered = rows[y, 0]
        if filtered == 0:
            pixels[y + 1, 1:] = line
        elif filtered == 1:
            pixels[y + 1, 1:] = np.cumsum(line, axis=0) % 256
        elif filtered == 2:
            pixels[y + 1, 1:] = (line + above[1:]) % 256
        else:
            for x in range(width):
                left, up, corner = pixels[y + 1, x], above[x + 1], above[x]
                if filtered == 3:
                    guess = (left + up) // 2
                else:
                    a, b, c = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
                    guess = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
                pixels[y + 1, x + 1] = (line[x] + guess) % 256
    return pixels[1:, 1:, :3].astype(np.uint8)


def page_of(embedder) -> str:
    return (embedder[0] / "report.html").read_text("utf-8")


@chromium.needs_chromium
@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_wider_than_a_phone(embedder, tmp_path, width):
    """Of the whole page, whatever its length."""
    # Chromium's own windows are not as narrow, its frames are
    frame = (
        f'<iframe srcdoc="{html.escape(page_of(embedder))}" style="width: {width}px; border: 0"></iframe><script>'
        "onload = () => { const page = frames[0].document.documentElement;"
        "document.title = [page.scrollWidth, frames[0].innerWidth, page.scrollHeight] }</script>"
    )
    (tmp_path / "frame.html").write_text(f"<!DOCTYPE html><title>?</title>{frame}", "utf-8")
    widest, window, height = map(int, chromium.title(tmp_path / "frame.html").split(","))
    assert window == width
    assert widest <= width
    assert height > 3000


@chromium.needs_chromium
@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_fits_a_phone_and_a_desktop(embedder, tmp_path, width):
    pixels = screenshot(embedder[0] / "report.html", tmp_path / "page.png", width, 1000)
    assert pixels.shape[:2] == (1000, width)
    paper = pixels[0, 0].astype(int)
    inked = np.abs(pixels.astype(int) - paper).sum(axis=2) > 24
    assert inked[:, 10 : width - 10].mean() > 0.02  # there is something to read
    assert not inked[:, :8].any()  # and it keeps off both edges
    assert not inked[:, width - 8 :].any()
