"""README.md of a bundle: what the model is and how to use it, for people and for the Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from embedge.manifest import Manifest
from embedge_export.report.command import export_command
from embedge_export.report.tables import variant_bytes
from embedge_export.report.words import lead, limits, reference_of, witnessed
from embedge_export.spec import ExportSpec
from embedge_export.verify.figures import FIGURES

CARD_FILE = "README.md"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PIPELINE_TAGS = {
    "embed": "sentence-similarity",
    "token_embed": "sentence-similarity",
    "classify": "text-classification",
    "token_classify": "token-classification",
    "score": "text-ranking",
}
_FIGURES = tuple(name for name in FIGURES if name != "top_10_overlap")


def write_card(folder: Path, manifest: Manifest, spec: ExportSpec) -> None:
    """Write README.md into a bundle whose graphs are complete; `manifest` has the figures."""
    (folder / CARD_FILE).write_text(
        render(manifest, export_command(spec, manifest.source)), "utf-8", newline="\n"
    )


def render(manifest: Manifest, command: str) -> str:
    """The model card as Markdown with YAML front matter.

    Args:
        manifest: of the finished bundle.
        command: that makes the export again.
    """
    source = manifest.source
    parts = [
        f"{_front_matter(manifest)}\n# {_plain(manifest.name)}\n",
        f"{lead(manifest, ' and '.join(manifest.tasks))}\n",
        f"Exported from {_plain(source.name)}"
        + (f", revision `{source.revision}`" if source.revision else "")
        + f". Licence: {_plain(source.licence or 'not stated by the checkpoint')}.\n",
        "`embedge inspect BUNDLE --report` opens the figures with plots, `embedge verify BUNDLE` replays the probes "
        "on your machine.\n",
        f"## Use\n\n```python\n{_usage(manifest)}```\n",
    ]
    if (
        manifest.tasks[0] == "embed"
        and not manifest.sparse
        and not manifest.modules
        and manifest.tower is None
    ):
        parts.append(
            "With sentence-transformers (`pip install 'sentence-transformers[onnx]'`):\n\n"
            "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
            'model = SentenceTransformer("BUNDLE", backend="onnx", model_kwargs={"file_name": "onnx/model.onnx"})\n'
            'vectors = model.encode(["How do I reset my password?"])\n```\n'
        )
    parts += [
        f"## Figures\n\n{_table(manifest)}",
        "Cosines, ranks and labels are of end-to-end answers to texts that the exporter brings along; report.html says "
        "more.\n",
        f"{_plain(witnessed(manifest))}\n",
        "## Limits\n\n" + "".join(f"- {text}\n" for text in limits(manifest)),
        f"## Made with\n\n```\n{command}\n```\n",
    ]
    return "\n".join(parts)


def _front_matter(manifest: Manifest) -> str:
    source = manifest.source
    lines = [
        "---",
        "library_name: embedge",
        f"pipeline_tag: {_PIPELINE_TAGS.get(manifest.tasks[0], 'other')}",
    ]
    if source.licence:
        lines.append(f"license: {_quoted(source.licence)}")
    if _HUB_ID.fullmatch(source.name):
        lines += [f"base_model: {_quoted(source.name)}", "base_model_relation: quantized"]
    lines += ["tags:", "- onnx", "- onnxruntime", "- embedge"]
    if manifest.tasks[0] == "embed":
        lines += ["- sentence-transformers", "- feature-extraction"]
    return "\n".join([*lines, "---", ""])


def _usage(manifest: Manifest) -> str:
    start = 'from embedge import EdgeModel\n\nmodel = EdgeModel("BUNDLE")\n'
    task = manifest.tasks[0]
    if task == "score" or manifest.late_interaction is not None:
        return (
            start
            + 'documents = ["Berlin is the capital of Germany.", "Plants turn light into sugar."]\n'
            + 'for result in model.rerank("capital of Germany", documents):\n'
            + "    print(result.score, result.document)\n"
        )
    if task == "classify":
        return (
            start
            + 'for output in model.classify(["I want my money back."]):\n    print(output.outputs.label)\n'
        )
    if task == "token_classify":
        return (
            start
            + 'rows = model.encode(["Ada lives in Berlin."])[0].outputs.data  # (num_tokens, num_labels)\n'
        )
    if manifest.sparse:
        return start + 'weights = model.embed_sparse(["How do I reset my password?"])[0].outputs\n'
    if task == "token_embed":
        return start + 'rows = model.encode(["Ada lives in Berlin."])[0].outputs.data  # (num_tokens, size)\n'
    if manifest.towers:
        return start + (
            'queries = model.embed(["How do I reset my password?"], tower="query").numpy()'
            f"  # (1, {manifest.embedding_size}), float32\n"
            'documents = model.embed(["Passwords are reset in the settings."], tower="document").numpy()\n'
            if {"query", "document"} <= {manifest.tower, *manifest.towers}
            else f'vectors = model.embed(["How do I reset my password?"], tower="{manifest.tower}").numpy()\n'
        )
    side = next((name for name in ("query", "search_query") if name in manifest.prompts), None)
    name = "" if side is None else f', prompt_name="{side}"'
    size = f"(1, {manifest.embedding_size})"
    return (
        start + f'vectors = model.embed(["How do I reset my password?"]{name}).numpy()  # {size}, float32\n'
    )


def _table(manifest: Manifest) -> str:
    rows: list[Sequence[str]] = [("variant", "precision", "size", *_header(manifest))]
    rows.append(["---"] * len(rows[0]))
    for name, variant in manifest.variants.items():
        size = f"{variant_bytes(manifest, variant) / 1e6:,.1f} MB"
        rows.append((name, variant.dtype, size, *_figures(manifest, name)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _shown(manifest: Manifest) -> list[str]:
    ends = [variant.fidelity.end_to_end for variant in manifest.variants.values()]
    return [name for name in _FIGURES if any(getattr(end, name, None) is not None for end in ends)]


def _header(manifest: Manifest) -> list[str]:
    return [
        f"largest difference from {reference_of(manifest)}",
        *(FIGURES[name].words for name in _shown(manifest)),
    ]


def _figures(manifest: Manifest, variant: str) -> list[str]:
    fidelity = manifest.variants[variant].fidelity
    cells = [f"{fidelity.max_abs_diff:.1e}" if fidelity.num_texts else "not measured"]
    for name in _shown(manifest):
        value = getattr(fidelity.end_to_end, name, None)
        cells.append("–" if value is None else FIGURES[name].show(value))
    return cells


def _quoted(text: str) -> str:
    """A YAML scalar; JSON's strings are all valid ones."""
    return text if re.fullmatch(r"[A-Za-z][\w./-]*", text) else json.dumps(text, ensure_ascii=False)


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))
