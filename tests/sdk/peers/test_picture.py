"""The picture: whole, of the figures that it is given, and as a browser draws it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import msgspec
import pytest
from tests import chromium

from embedge._peers.figures import Comparison, LeftOut, Measured, Spread
from embedge._peers.picture import Setting, draw_page, draw_svg, notes

SETTING = Setting(name="a <b>model</b>", cpu="Processor & Co", threads=4, date="1 May 2026")


def measured(label, rate, *, ours=False, cosine=0.99987, same=True, memory=1e8):
    def spread(value):
        return Spread(median=value, low=0.9 * value, high=1.2 * value)

    return Measured(
        label=label,
        ours=ours,
        dtype="float32",
        version="1.0",
        start_s=1 / rate,
        query_ms=spread(1000 / rate),
        short_per_s=spread(10 * rate),
        passages_per_s=spread(rate),
        peak_rss_bytes=memory,
        cosine_min=cosine,
        cosine_mean=cosine,
        same_vectors=same,
    )


def compared(*subjects, left_out=()):
    return Comparison(
        rounds=3,
        seconds=41.2,
        queries=50,
        shorts=200,
        passages=40,
        short_words=9.6,
        passage_words=33.0,
        reference="sentence-transformers, torch",
        compared=24,
        measured=subjects,
        left_out=left_out,
    )


ALL = compared(
    measured("embedge fp32", 400.0, ours=True, cosine=0.9999999),
    measured("embedge int8", 900.0, ours=True),
    measured("sentence-transformers, openvino & more", 120.0),
    measured("sentence-transformers, torch", 100.0, cosine=1.0),
    measured("fastembed, on this bundle's graph", 1e-3, cosine=0.7312, same=False),
    measured("<other>", 3.0, cosine=None, same=False),
    left_out=(
        LeftOut(label="light-embed", reason="it has <no> graph"),
        LeftOut(label="embedge int8", reason="not done after 2 s", rounds=2),
    ),
)


class Links(HTMLParser):
    """What a page would fetch, and the tags that it has."""

    def __init__(self):
        super().__init__()
        self.found, self.tags = [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]


def test_a_page_needs_nothing_else_and_says_what_was_measured() -> None:
    page = draw_page(ALL, SETTING)
    links = Links()
    links.feed(page)
    assert links.found == []
    assert links.tags.isdisjoint({"b", "other", "no", "script"})
    assert "{{" not in page
    for words in (
        "4 threads of Processor &amp; Co, 3 rounds, in turn, 41 s in all, 1 May 2026",
        "cos ≥ 0.99987",
        "cos ≥ 0.99999",
        "other vectors, cos ≥ 0.73",
        "not the checkpoint&#x27;s, whatever their speed: fastembed, on this bundle&#x27;s graph, &lt;other&gt;.",
        "Not measured: light-embed: it has &lt;no&gt; graph.",
        "Stopped after 2 of 3 rounds: embedge int8: not done after 2 s.",
        "200 short texts of 10 words",
        "40 passages of 33 words",
    ):
        assert words in page, words


def test_bars_are_as_long_as_their_figures() -> None:
    svg = ElementTree.fromstring(draw_svg(ALL, SETTING))
    name = {"svg": "http://www.w3.org/2000/svg"}
    panels = svg.findall("svg:g", name)
    assert len(panels) == 5
    widths = [float(bar.get("width")) for bar in panels[2].findall("svg:rect", name)]
    assert widths[0] / widths[1] == pytest.approx(400 / 900, rel=1e-2)
    assert widths[1] * 1.2 == pytest.approx(
        330, rel=1e-2
    )  # the highest of all rounds ends where bars may end
    kinds = [bar.get("class") for bar in panels[2].findall("svg:rect", name)]
    assert kinds == ["ours", "ours", "theirs", "theirs", "theirs other", "theirs other"]


def test_a_restless_machine_is_named() -> None:
    calm = measured("calm", 10.0)
    rate = msgspec.structs.replace(calm.passages_per_s, low=10.0, high=16.0)
    restless = msgspec.structs.replace(measured("embedge int8", 10.0), passages_per_s=rate)
    said = "The machine was not calm: rounds of embedge int8 differ by 60 %."
    assert any(said in note for note in notes(compared(calm, restless)))
    assert not any("not calm" in note for note in notes(compared(calm)))


def test_a_disturbed_round_does_not_press_the_bars_together() -> None:
    calm, disturbed = measured("calm", 10.0), measured("disturbed", 10.0)
    rate = msgspec.structs.replace(disturbed.passages_per_s, high=500.0)
    all_of_them = compared(calm, msgspec.structs.replace(disturbed, passages_per_s=rate))
    panel = ElementTree.fromstring(draw_svg(all_of_them, SETTING)).findall("{*}g")[2]
    assert {bar.get("width") for bar in panel.findall("{*}rect")} == {"206.2"}  # 330 / 1.6
    ends = [line.get("d") for line in panel.findall("{*}path")]
    assert [end.count("v6") for end in ends] == [2, 1]
    assert "H330.0" in ends[1]


def test_nobody_else_is_there() -> None:
    alone = compared(measured("embedge fp32", 10.0, ours=True, memory=None))
    assert any("pip install fastembed" in note for note in notes(alone))
    assert not any("pip install" in note for note in notes(ALL))
    assert "Highest memory" not in draw_page(alone, SETTING)


# every text of a panel inside of it, no two over each other
LOOKED = """<script>
const problems = [];
for (const svg of document.querySelectorAll("svg")) {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const boxes = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBBox()]);
  for (const [i, [words, box]] of boxes.entries()) {
    if (box.x < 0 || box.x + box.width > width + 0.5 || box.y + box.height > height) problems.push("beyond: " + words);
    for (const [others, other] of boxes.slice(i + 1))
      if (box.x < other.x + other.width && other.x < box.x + box.width &&
          box.y + 2 < other.y + other.height - 2 && other.y + 2 < box.y + box.height - 2)
        problems.push(words + " over " + others);
  }
}
if (document.documentElement.scrollWidth > innerWidth) problems.push("wider than the window");
document.title = "looked " + encodeURIComponent(JSON.stringify(problems));
</script>"""


@chromium.needs_chromium
def test_a_browser_draws_every_text_in_its_place(tmp_path) -> None:
    page = draw_page(ALL, SETTING).replace("style-src", "script-src 'unsafe-inline'; style-src")
    (tmp_path / "bench.html").write_text(page.replace("</body>", f"{LOOKED}</body>"), "utf-8")
    assert json.loads(chromium.title(tmp_path / "bench.html", "--window-size=900,700", word="looked ")) == []
