"""What the report and the model card say in sentences."""

from __future__ import annotations

from embedge.manifest import Manifest
from embedge_export.precisions import Comparison
from embedge_export.texts.retrieval import CALIBRATION_DOCUMENTS, CANDIDATES, built_in_set
from embedge_export.verify.questions import Questions

_SHOWN = 8
_DOES = {
    "embed": "embeddings",
    "token_embed": "token embeddings",
    "classify": "classification",
    "token_classify": "token classification",
    "score": "reranking",
}


def lead(manifest: Manifest, tasks: str) -> str:
    """One or two sentences under the title."""
    size = (
        f" of {manifest.embedding_size} dimensions" if manifest.embedding_size and not manifest.sparse else ""
    )
    does = _DOES.get(manifest.tasks[0], tasks)
    num = len(manifest.variants)
    passed = "One variant was measured and" if num == 1 else f"{_count(num)} variants were measured and each"
    return (
        f"{manifest.architecture} for {does}{size}, for texts of up to {manifest.max_seq_len:,} tokens. "
        f"{passed} passed the gate of its precision; what misses its gate is never written."
    )


def _count(number: int) -> str:
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six")
    return words[number] if number < len(words) else str(number)


def facts(manifest: Manifest) -> list[tuple[str, str]]:
    """Names and values of what the checkpoint states."""
    source = manifest.source
    origin = source.name if source.revision is None else f"{source.name}, revision {source.revision}"
    pairs = [
        ("checkpoint", origin),
        ("licence", source.licence or "not stated by the checkpoint"),
        ("architecture", manifest.architecture),
        ("tasks", ", ".join(manifest.tasks)),
    ]
    if manifest.pooling is not None:
        pairs.append(("pooling", " and ".join(mode.lower() for mode in manifest.pooling.modes)))
    if manifest.modules:
        pairs.append(("modules", " → ".join(module.words for module in manifest.modules)))
    if manifest.embedding_size is not None:
        pairs.append(("embedding", f"{manifest.embedding_size:,} components, {_length(manifest)}"))
    if manifest.tower is not None:
        others = f", {', '.join(manifest.towers)}" if manifest.towers else ", one of a model's"
        pairs.append(("tower", manifest.tower + others))
    if manifest.matryoshka:
        some = manifest.matryoshka
        sizes = "any size" if isinstance(some, bool) else ", ".join(str(size) for size in some)
        pairs.append(("shorter embeddings", sizes))
    if manifest.head is not None:
        labels = manifest.head.labels
        shown = ", ".join(labels[:12]) + (f" and {len(labels) - 12} more" if len(labels) > 12 else "")
        pairs += [("labels", shown), ("activation", manifest.head.activation)]
    if manifest.late_interaction is not None:
        late = manifest.late_interaction
        pairs.append(
            ("late interaction", f"queries of {late.query_len}, documents of {late.document_len} tokens")
        )
    if manifest.prompts:
        pairs.append(
            ("stored prompts", ", ".join(f"{name}: “{text}”" for name, text in manifest.prompts.items()))
        )
    pairs += [("assumed", what) for what in manifest.assumed]
    pairs += [
        ("longest text", f"{manifest.max_seq_len:,} tokens"),
        ("vocabulary", f"{manifest.vocab_size:,} tokens"),
    ]
    return pairs


def _length(manifest: Manifest) -> str:
    return (
        "scaled to unit length"
        if manifest.normalize
        else f"not normalised, compared by {manifest.similarity}"
    )


def reference_of(manifest: Manifest) -> str:
    """What the checkpoint's own answers were computed in."""
    return "given answers" if manifest.reference is None else manifest.reference.name


def how_compared(asked: Questions, manifest: Manifest) -> str:
    """Which answers were compared, and with whose."""
    computed = "float32" if manifest.reference is None else f"{manifest.reference.words}, float32"
    heights = (
        " Bars are square roots of counts, so that a single text far out shows."
        if asked.comparison == "embed"
        else ""
    )
    what = {"embed": "vectors", "score": "scores", "classify": "probabilities"}[asked.comparison]
    return (
        f"End to end, through the SDK: text in, {what} out. fp32 is compared with the checkpoint in {computed}; "
        f"every other variant with fp32.{heights}"
    )


def how_judged(comparison: Comparison) -> str:
    """How to read the table of fidelity."""
    start = (
        "Small figures are the gate: a variant beyond it would not have been written. The raw difference is the "
        "largest of any number that the graph gives for the exporter's other texts, before any normalisation or "
        "activation. "
    )
    end = "The last row is how much an answer changes with the texts that share its batch."
    if comparison == "score":
        return (
            start
            + "Scores that the reference holds less than 1 % of its range apart count as equal in rank. "
            + end
        )
    if comparison == "classify":
        return start + "Labels are counted where the reference decides by at least 0.02. " + end
    return start + end


def set_in_words(asked: Questions) -> str:
    """What the retrieval set is."""
    origin = (
        "Queries are first sentences of docstrings of Python and numpy, their documents what follows them; "
        "each query has one right answer. "
    )
    if asked.comparison == "score":
        queries = len(asked.pairs) // CANDIDATES
        return (
            f"{origin}{queries} queries were asked, each with its answer among {CANDIDATES} documents that share "
            "words with it."
        )
    size = len(asked.texts.documents)
    whole = len(built_in_set().documents) - CALIBRATION_DOCUMENTS
    rest = "" if size == whole else f" --full-report asks the whole set of {whole:,}."
    return (
        f"{origin}{size:,} queries were asked over {size:,} documents.{rest} What matters is the difference between "
        "variants: the set says little about how good a model is for other texts. Spearman is over 60 sentence "
        "pairs with grades of likeness."
    )


def witnessed(manifest: Manifest) -> str:
    """What the checkpoint's own library said, in a sentence."""
    witness = manifest.witness
    if witness is None or witness.reason is not None:
        reason = "" if witness is None else f": {witness.reason}"
        return f"Not compared with the checkpoint's own library{reason}."
    library, *below = (f"{name} {version}" for name, version in witness.versions.items())
    on = f" on {below[0]}" if below else ""
    asked = ", ".join(witness.asked[:_SHOWN])
    if len(witness.asked) > _SHOWN:
        asked += f" and {len(witness.asked) - _SHOWN} more"
    return (
        f"Compared with {witness.door} of {library}{on}, which loaded the checkpoint by itself and was asked by text "
        f"({asked}): float32 differs by at most {witness.max_abs_diff:.1e}."
    )


def limits(manifest: Manifest) -> list[str]:
    """What the figures do not promise."""
    said = [f"Assumed {what}." for what in manifest.assumed]
    if manifest.witness is None or manifest.witness.reason is not None:
        said.append(witnessed(manifest))
    said += [
        f"Texts longer than {manifest.max_seq_len:,} tokens are refused, or cut where the caller asks for it.",
        "Other CPUs add in another order: embedge verify replays the bundle's probes on the machine at hand.",
        "Most of the built-in texts are English and short. Before relying on a variant below float32 for another "
        "language or domain, compare it with fp32 on texts of your own.",
    ]
    dependent = [
        name
        for name, variant in manifest.variants.items()
        if variant.fidelity.end_to_end and variant.fidelity.end_to_end.batch_invariance == "batch-dependent"
    ]
    if dependent:
        said.append(f"Answers of {', '.join(dependent)} depend slightly on the texts that share a batch.")
    for target, only, lacked, where in (
        ("cuda", "CUDA GPUs", "GPU", "on a machine with a GPU"),
        ("openvino", "OpenVINO", "OpenVINO", "where one is"),
    ):
        there = [name for name, variant in manifest.variants.items() if variant.target == target]
        if there:
            said.append(f"{', '.join(there)}: for {only} only.")
        unmeasured = [name for name in there if not manifest.variants[name].fidelity.num_texts]
        if unmeasured:
            said.append(
                f"{', '.join(unmeasured)}: exported where no {lacked} could run it, so its numbers are not known. "
                f"Before use, run embedge verify BUNDLE --device {target} {where}."
            )
    if manifest.source.licence is None:
        said.append(
            "The checkpoint states no licence; whether it may be used or passed on is not known from it."
        )
    return said
