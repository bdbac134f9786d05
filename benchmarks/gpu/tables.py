"""Tables and a plot of the GPU's results, for results/gpu.md and docs/guides/gpu.md.

`python -m benchmarks.gpu.tables` writes them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.gpu.plot import plot
from benchmarks.gpu.targets import CEILING, MAIN, chosen, evaluate, share
from benchmarks.tables import number, table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "guides" / "gpu.md"
_BOUND_BY_THE_HOST = 0.8
BEGIN, END = "<!-- gpu:begin -->", "<!-- gpu:end -->"
SHAPES = ("64x128", "256x128", "256x32", "32x512", "ragged")
FORM_OPERATORS = {
    "packed": "the packed operators, by shape",
    "attention": "Attention",
    "multi_head_attention": "MultiHeadAttention",
    "packed_attention": "PackedAttention",
    "packed_multi_head_attention": "PackedMultiHeadAttention",
    "standard": "ONNX's Attention",
    "query": "ONNX's Attention",
    "bfloat16": "ONNX's Attention, bfloat16",
}
LATER = {
    "ceiling": "the card's rate of matrix products",
    "decoder": "Qwen3",
    "windows": "ModernBERT",
    "families": "cosines of the families",
    "shares": "kernels' shares of a run",
}
"""Parts as a reader of the page knows them."""
FAMILY_OPERATORS = {
    "merged": "packed",
    "separate": "PackedMultiHeadAttention",
    "standard": "ONNX's Attention",
    "by batch": "PackedMultiHeadAttention, as its batch is ragged",
}


def targets_table(results: dict, two: dict | None) -> str:
    """What embedge is held to."""
    words = {True: "met", False: "**missed**", None: "not measured"}
    return table(
        ["measure", "target", "measured", "outcome"],
        [[each.measure, each.target, each.measured, words[each.met]] for each in evaluate(results, two)],
        words=True,
    )


def device_rows(results: dict) -> list[tuple[str, bool, dict]]:
    """Label, whether it is ours, and device-only figures of every system at BERT-base size."""
    rows = []
    for form, figures in results.get("forms", {}).items():
        if "tokens_per_s" in figures:
            name = f"embedge, {FORM_OPERATORS[form]}"
            rows.append((name, True, figures))
    rows.sort(key=lambda row: row[2] is not chosen(results))
    torch = results.get("torch", {})
    if MAIN in torch:
        rows.append(("torch float16 SDPA", False, {"tokens_per_s": torch[MAIN]}))
    if "masked" in torch:
        rows.append(("torch float16 SDPA, one token masked", False, {"tokens_per_s": torch["masked"]}))
    if "tokens_per_s" in results.get("traced", {}):
        rows.append(("onnxruntime, traced float16 graph", False, results["traced"]))
    return rows


def device_table(results: dict) -> str:
    """Device-only rates."""
    rows = []
    for label, ours, figures in device_rows(results):
        rates = [figures["tokens_per_s"].get(shape) for shape in SHAPES]
        name = f"**{label}** (in bundles)" if ours and figures is chosen(results) else label
        rows.append(
            [
                name,
                *("–" if rate is None else f"{rate / 1e6:.2f}" for rate in rates),
                number(figures.get("query_ms", {}).get("p50")),
            ]
        )
    header = ["M tokens/s", *(shape.replace("x", " x ") for shape in SHAPES), "one query (ms)"]
    return table(header, rows)


def text_table(results: dict) -> str:
    """Text to vectors."""
    rows = []
    for part, label in (("bulk", "BERT-base"), ("bulk_minilm", "MiniLM-L6")):
        found = results.get(part, {})
        for key, rate in found.get("texts_per_s", {}).items():
            how = (
                "as it is by default" if key == "None" else key if "flight" in key else f"{int(key):,} tokens"
            )
            tokens = found["tokens_per_s"].get(key, rate * found["tokens"] / found["texts"])
            rows.append([f"embedge, {label}, {how}", f"{rate:,.0f}", f"{tokens / 1e6:.2f}"])
        if part == "bulk" and "tokenise_texts_per_s" in found:
            rate = found["tokenise_texts_per_s"]
            tokens = rate * found["tokens"] / found["texts"]
            rows.append(["tokenising alone, all host cores", f"{rate:,.0f}", f"{tokens / 1e6:.2f}"])
    peer = results.get("sentence_transformers", {})
    if "texts_per_s" in peer:
        label = f"sentence-transformers {peer['version']} float16, BERT-base, batches of {peer['batch_size']}"
        rows.append([label, f"{peer['texts_per_s']:,.0f}", "–"])
    return table(["text to vectors", "texts/s", "M tokens/s"], rows)


def limits(results: dict) -> str:
    """What stands between these rates and the card's, in words made of the figures."""
    ours, ceiling = chosen(results).get("tokens_per_s", {}), results.get("ceiling", {})
    if "256x128" not in ours or CEILING not in ceiling:
        return "The card's matrix-product rate was not measured."
    layer = [rate for shape, rate in ceiling.items() if shape != CEILING]
    torch = results.get("torch", {}).get(MAIN, {})
    dense = [ours[s] / torch[s] for s in SHAPES[:-1] if s in ours and s in torch]
    against = ""
    if dense and "ragged" in torch:
        against = (
            f" torch's own kernels reach nearly the same on full rows: embedge is at {min(dense):.2f} to "
            f"{max(dense):.2f} times its rate there, and at {ours['ragged'] / torch['ragged']:.2f} times on a ragged "
            "batch, where torch computes padding."
        )
        if torch["64x128"] < _BOUND_BY_THE_HOST * torch["256x128"]:
            against += (
                " At 8,192 tokens torch is bound by this host, as it starts every operator from Python; on another one "
                "it made 1.91 (64 x 128) and 1.79 (256 x 32) M tokens/s."
            )
    return (
        f"A large matrix product runs at {ceiling[CEILING]:,.0f} TFLOP/s on this card, those of one layer at 32,768 "
        f"tokens at {min(layer):,.0f} to {max(layer):,.0f}; the whole model at 256 x 128 reaches "
        f"{share(results, '256x128', ours['256x128']):.0f} % of the first. The rest is attention, normalisation and "
        f"activations, which are bound by memory, not by arithmetic.{against} The targets against torch come from an "
        "earlier run in which torch made 0.49, 0.68 and 1.04 M tokens/s at these shapes."
    )


def new_shapes(results: dict) -> str:
    """Why Attention is in no bundle, in words made of the figures."""
    found = results.get("forms", {}).get("attention", {}).get("new_shape_ms")
    if found is None:
        return ""
    return (
        "Attention is fastest where nothing is padded, and in no bundle: its kernels (cuDNN's) are planned for each "
        f"number of texts and tokens anew, in every thread. A batch of a shape that was not there before takes "
        f"{found['first']:.0f} ms, the next of that shape {found['again']:.1f}; texts of all lengths seldom give the "
        "same shape twice. The packed operators plan nothing.\n\n"
    )


def two_cards(two: dict | None) -> str:
    """What bounds several cards, in words made of the figures."""
    found = (two or {}).get("two", {})
    if "many" not in found:
        return ""
    many, cores = found["many"], two["machine"]["host"]["cores"]
    reached, host = many["texts_per_s"]["None"], many["tokenise_texts_per_s"]
    one = found["one"]["texts_per_s"]["None"]
    made = (
        f" Two cards make {reached:,.0f} texts/s together, one {one:,.0f} in the same run; tokenising alone made "
        f"{host:,.0f} then on all {cores} cores"
    )
    if reached > _BOUND_BY_THE_HOST * host:
        return f"{made} of their host, which bounds them."
    return f"{made} of their host, which also gather the batches and finish the vectors."


def graphs_table(results: dict) -> str:
    """One query operator by operator, and replayed from a captured CUDA graph."""
    rows = []
    for name, figures in results.get("cuda_graph", {}).items():
        operator, how = name.split(", ")
        if isinstance(figures, dict) and "p50" in figures:
            rows.append([FORM_OPERATORS[operator], how, number(figures["p50"]), number(figures["p90"])])
        else:
            rows.append([FORM_OPERATORS[operator], how, "refused by onnxruntime", "–"])
    return table(["operator", "one text of 16 tokens", "p50 (ms)", "p90 (ms)"], rows, words=True)


def families_table(results: dict) -> str:
    """Graphs of every family on the card against float32 on the CPU."""
    rows = []
    for name, figures in results.get("families", {}).items():
        if "cosine_min" in figures:
            cosine = f"{int(1e6 * figures['cosine_min']) / 1e6:.6f}"
            rows.append([name, FAMILY_OPERATORS[figures["form"]], cosine, f"{figures['max_diff']:.1e}"])
        else:
            rows.append(
                [
                    name,
                    FAMILY_OPERATORS.get(figures.get("form"), "–"),
                    "failed: " + str(figures.get("error"))[:160],
                    "–",
                ]
            )
    return table(
        ["family", "operators", "smallest cosine", "largest difference of unit rows"], rows, words=True
    )


def others_table(results: dict) -> str:
    """A decoder and an encoder with windows, beside torch."""
    rows = []
    for part, label in (("decoder", "Qwen3, 0.6 B"), ("windows", "ModernBERT-base")):
        found = results.get(part, {})
        for precision, peer in (("fp16", "float16"), ("bf16", "bfloat16")):
            ours, torch = found.get(precision), found.get("torch", {}).get(peer, {})
            if ours is None:
                continue
            rates = [
                f"{ours['tokens_per_s'][shape] / 1e3:,.0f} / {torch[shape] / 1e3:,.0f}"
                f" = {ours['tokens_per_s'][shape] / torch[shape]:.2f}x"
                for shape in torch
            ]
            ragged = ours["tokens_per_s"].get("ragged")
            rates.append("–" if ragged is None else f"{ragged / 1e3:,.0f}")
            cosine = int(1e6 * ours["agreement"]["cosine_min"]) / 1e6
            query = number(ours["query_ms"]["p50"])
            rows.append([f"{label}, {peer}", *rates, query, f"{cosine:.6f}"])
    header = [
        "thousand tokens/s, embedge / torch SDPA",
        "64 x 128",
        "32 x 512",
        "ragged",
        "one query (ms)",
        "smallest cosine",
    ]
    return table(header, rows, words=True)


def shares_table(results: dict) -> str:
    """Where the time of other layouts goes, by what their kernels work at."""
    found = results.get("shares", {})
    works = (
        [work for work in next(iter(next(iter(found.values())).values())) if work != "all"] if found else []
    )
    rows = [
        [
            f"{name}, {shape.replace('x', ' x ')}",
            f"{times['all']:.1f}",
            *(f"{100 * times[work] / times['all']:.0f} %" for work in works),
        ]
        for name, shapes in found.items()
        for shape, times in shapes.items()
    ]
    return table(["kernels of a run", "ms", *works], rows)


def fp8_table(results: dict) -> str:
    """Products in FP8 beside those in float16."""
    rows = [
        [shape, *(f"{rates[kind]:,.0f}" for kind in ("float16", "fp8"))]
        for shape, rates in results.get("fp8", {}).items()
    ]
    return table(["TFLOP/s of rows x inner x outer size", "MatMul, float16", "Cast, GemmFloat8"], rows)


def captured_queries(results: dict) -> str:
    """What CUDA graphs bring one query, in words made of the figures."""
    query = results.get("query", {})
    made = []
    for label, plain, captured in (
        ("BERT-base", query, query.get("captured", {})),
        ("MiniLM-L6", query.get("minilm", {}), query.get("captured_minilm", {})),
    ):
        if "p50" in plain and "p50" in captured:
            made.append(f"of {label} takes {captured['p50']:.2f} ms instead of {plain['p50']:.2f}")
    if not made:
        return ""
    loads = query["captured"]
    said = (
        f"With `cuda_graphs=True` one query {', one '.join(made)}, text to vector at the median; loading BERT-base "
        f"takes {loads['captured_load_s']:.2f} s instead of {loads['load_s']:.2f}."
    )
    if "card_mb" not in loads:
        return said
    return (
        f"{said} It then takes {loads['captured_card_mb']:,.0f} MB of the card's memory instead of "
        f"{loads['card_mb']:,.0f}; it would be {loads['captured_unshared_card_mb']:,.0f} if each session had "
        "weights of its own."
    )


def conditions(results: dict) -> str:
    """The machine in one line."""
    machine = results["machine"]
    host = machine["host"]
    return (
        f"{machine['cards'][0]}, {host['cores']} host cores; onnxruntime-gpu {machine['onnxruntime']}, "
        f"torch {machine['torch']}, transformers {machine['transformers']}; weights drawn from a seed, float16 unless "
        "said otherwise"
        f"{'; ' + machine['note'] if machine.get('note') else ''}"
    )


def later(results: dict) -> str:
    """Which parts were measured after the others, as a sentence to follow another; or nothing."""
    parts = [LATER.get(part, part) for part in results.get("later", [])]
    if not parts:
        return ""
    return f" Measured later, on such a card: {', '.join(parts[:-1])}{' and ' * (len(parts) > 1)}{parts[-1]}."


def render(results: dict, two: dict | None) -> str:
    """The whole results file as Markdown."""
    said = "\n".join(
        f"- `{asked}`: {answer if isinstance(answer, str) else answer.get('message')}"
        for asked, answer in results.get("refusals", {}).items()
    )
    query = results.get("query", {})
    split = ""
    if "run_p50" in query:
        split = (
            f"One query takes {query['p50']:.2f} ms from text to vector at the median; {query['run_p50']:.2f} of them "
            "are the run on the card with its copies."
        )
        if "unbranched" in query:
            alone = query["unbranched"]["p50"]
            split += (
                f" A graph of PackedAttention alone, without the branch to the other form, takes {alone:.2f}"
                + (
                    ": probably since onnxruntime plans no memory for what stands in a branch."
                    if alone < query["p50"]
                    else ", so the branch costs less than a host's noise."
                )
            )
        split += "\n\n"
    peer = results.get("sentence_transformers", {}).get("query_ms")
    if peer is not None:
        split += (
            f"sentence-transformers takes {peer['p50']:.1f} ms for it at the median, {peer['p90']:.1f} in one of ten, "
            "as it starts every operator from Python. That, and tokenising beside the card, is what text to vectors "
            "gains: the card itself is as fast with either on full rows.\n\n"
        )
    several = ""
    if two is not None and "gain" in two.get("two", {}):
        found = two["two"]
        rates = [found[name]["texts_per_s"]["None"] for name in ("one", "many")]
        several = (
            f"## Several GPUs\n\n{conditions(two)}: {rates[0]:,.0f} texts/s on one, {rates[1]:,.0f} on "
            f"{len(two['machine']['cards'])}, {found['gain']:.2f} times as many.\n\n"
        )
    return (
        f"# Measurements on a GPU\n\n{conditions(results)}. The figures are of one run.{later(results)}\n\n"
        f"## Targets\n\n{targets_table(results, two)}\n\n{limits(results)}{two_cards(two)}\n\n"
        f"## The device alone, BERT-base\n\nBatch x tokens; inputs and pooled rows stay on the card. "
        "From 96 tokens on in a batch of 8,192 or more, bundles take PackedMultiHeadAttention, else PackedAttention. "
        f"The ragged batch has 256 texts of 4 to 128 tokens, and only real tokens count. torch is given a mask without "
        f"padding, which transformers drops; with one token masked it cannot.\n\n{device_table(results)}\n\n"
        f"{new_shapes(results)}"
        f"## Text to vectors\n\n{text_table(results)}\n\n{split}{several}"
        f"## CUDA graphs\n\n{graphs_table(results)}\n\n{_ON_GRAPHS}\n\n{captured_queries(results)}\n\n"
        "## Other layouts\n\nThe sizes of Qwen3-Embedding-0.6B and ModernBERT-base with 30,522 words, weights from "
        "a seed; cosines to float32 on the CPU. torch's rates are without pooling.\n\n"
        f"{others_table(results)}\n\n{shares_table(results)}\n\n{_ON_SHARES}\n\n"
        f"## FP8\n\n{_ON_FP8}\n\n{fp8_table(results)}\n\n"
        f"## Families\n\nTiny encoders, weights from a seed; on the card against float32 on the CPU.\n\n"
        f"{families_table(results)}\n\n"
        f"## What is said to wrong input\n\n{said}\n"
    )


_ON_GRAPHS = (
    "The packed form has as many rows as there are real tokens, which a captured graph cannot, and chooses between two "
    "branches. So bundles have a second graph for single queries, of ONNX's Attention, on the same weights; it is "
    "captured for 8, 16, … 64 tokens; both have the same copy of the weights in the card's memory. `Attention` would "
    "be faster still, by cuDNN's kernels."
)


_ON_SHARES = (
    "Ragged batches of Qwen3 are packed, with a mask for causality and keys and values repeated for each head, which "
    "is most of the rest. What is not products moves numbers: gates and norms at most of the card's memory rate, "
    "turning at a quarter of it, as onnxruntime's kernel has a thread for each number, so that too few bytes are under "
    "way. onnxruntime 1.32 has a SwiGLU and a norm that turns, each one kernel; there is no wheel of it for CUDA yet."
)
_ON_FP8 = (
    "The card multiplies FP8 at 929 to 1,314 TFLOP/s; onnxruntime's GemmFloat8, with the rows' rounding before it, "
    "makes a third of float16's rate. So no bundle has FP8."
)


def section(results: dict, two: dict | None, name: str) -> str:
    """What stands in docs/guides/gpu.md between the markers."""
    last = ""
    if two is not None:
        same = two["machine"]["host"] == results["machine"]["host"]
        last = f" The last row is of {'both cards of that machine' if same else 'another machine with two such cards'}."
    return "\n".join(
        [
            f"BERT-base on {conditions(results)}. The bars and rows are of one run.{later(results)}{last}",
            "",
            f"![rates on the device, text to vectors, one query](../../benchmarks/results/{name}.png)",
            "",
            targets_table(results, two),
            "",
            limits(results) + two_cards(two),
            "",
            others_table(results),
            "",
            captured_queries(results),
            "",
            f"`python -m benchmarks.gpu --tokenizer FILE` measures again (`--help` says what it needs); "
            f"[benchmarks/results/{name}.md]"
            f"(../../benchmarks/results/{name}.md) has all figures.",
        ]
    )


def second(file: Path) -> dict | None:
    """Results of a machine with several cards, which lie beside those of one."""
    other = file.with_name(f"{file.stem}-two.json")
    return json.loads(other.read_text()) if other.is_file() else None


def write(file: Path, *, page: Path | None) -> None:
    """Render a results file beside itself, and into docs/guides/gpu.md."""
    results, two = json.loads(file.read_text()), second(file)
    file.with_suffix(".md").write_text(render(results, two))
    plot(results, device_rows(results), file.with_suffix(""))
    if page is not None:
        before, rest = page.read_text().split(BEGIN, 1)
        _, after = rest.split(END, 1)
        page.write_text(f"{before}{BEGIN}\n{section(results, two, file.stem)}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.tables", description=__doc__)
    parser.add_argument("--file", type=Path, default=RESULTS / "gpu.json")
    parser.add_argument("--no-page", action="store_true")
    args = parser.parse_args()
    write(args.file, page=None if args.no_page else PAGE)


if __name__ == "__main__":
    main()
