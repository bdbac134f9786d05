"""`embedge export --dry-run`: what an export understood of a checkpoint and would do, without doing it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from embedge.manifest import MANIFEST_FILE, PROBES_FILE, TOKENIZER_FILE, Similarity
from embedge.types import Task
from embedge_export.graph.given import load_graph
from embedge_export.graph.given_form import check_inputs, check_wraps, choose_output, precision
from embedge_export.graph.route import Chosen, Route, choose_route
from embedge_export.precisions import VARIANTS
from embedge_export.source.checkpoint import Checkpoint, weight_sizes
from embedge_export.source.kinds import Kind
from embedge_export.source.modules import Pooling, in_words, weighted
from embedge_export.source.read import open_checkpoint
from embedge_export.source.repository import open_repository
from embedge_export.source.static import Static
from embedge_export.source.tokenizer import Tokenization
from embedge_export.source.towers import find_towers
from embedge_export.spec import ExportSpec, expanded
from embedge_export.variants.cuda import describe_for_cuda, graph_stems
from embedge_export.variants.openvino import OPENVINO_STEM, describe_for_openvino
from embedge_export.write.graph_files import EXTERNAL_DATA_BYTES
from embedge_export.write.staging import choose_target

_REPORTS = ("report.html", "README.md")
"""A file that is wrapped has none."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was understood of a checkpoint, and what would be written.

    Attributes:
        name, revision, licence: of the checkpoint, where known.
        model_type, architecture, kind: what it is.
        tasks: what the bundle would do, the main one first.
        route: how its graph would be made, and variants, in which precisions.
        hidden_size, vocab_size, embedding_size: its sizes.
        pooling: modes, concatenated in this order.
        modules: Dense modules in words.
        normalize, matryoshka, similarity, prompts, default_prompt_name, labels: as in the manifest.
        max_seq_len: limit in tokens, and limit_from, what states it.
        weights: size in bytes of every weight file.
        code: Python files that would run, with their hashes.
        output: folder that would be written.
        replaces: a bundle is there that would be replaced.
        files: what would be in it.
        assumed: what would be taken for granted, in words.
        tower: of a model that embeds queries and documents apart, the one that this is of.
        towers: the others by name, in the same bundle.
    """

    name: str
    model_type: str
    architecture: str
    kind: Kind
    tasks: tuple[Task, ...]
    route: Route
    variants: tuple[str, ...]
    hidden_size: int
    vocab_size: int
    max_seq_len: int
    limit_from: str
    weights: dict[str, int]
    output: str
    files: tuple[str, ...]
    replaces: bool
    normalize: bool
    similarity: Similarity
    embedding_size: int | None = None
    pooling: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    matryoshka: bool | tuple[int, ...] = False
    prompts: dict[str, str] = msgspec.field(default_factory=dict)
    default_prompt_name: str | None = None
    labels: tuple[str, ...] = ()
    revision: str | None = None
    licence: str | None = None
    code: dict[str, str] = msgspec.field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    tower: str | None = None
    towers: dict[str, Plan] = msgspec.field(default_factory=dict)


def plan_export(spec: ExportSpec) -> Plan:
    """Read a checkpoint's files but not its weights, and say what an export would do.

    Raises:
        ExportError: an export would be refused for what can be seen so far.
    """
    if spec.tower is None and spec.from_onnx is None:
        towers = find_towers(open_repository(spec).folder)
        if towers is not None:
            plans = {name: _plan(msgspec.structs.replace(spec, tower=name)) for name in towers.names}
            return msgspec.structs.replace(plans.pop(towers.default), towers=plans)
    return _plan(spec)


def _plan(spec: ExportSpec) -> Plan:
    source = open_checkpoint(spec)
    checkpoint, tokenization = source.checkpoint, source.tokenization
    repository = checkpoint.repository
    target = choose_target(spec, repository.name)
    weights = weight_sizes(checkpoint)
    if spec.from_onnx is not None:
        route: Route = "given as a file"
        variants: tuple[str, ...] = (_given_variant(spec.from_onnx, spec, checkpoint),)
        files = _files(checkpoint, None, variants, sum(weights.values()))
        files = tuple(name for name in files if name not in _REPORTS)
    else:
        chosen = choose_route(checkpoint, spec)
        variants, route = tuple(spec.variants), chosen.route
        files = _files(checkpoint, chosen, variants, sum(weights.values()))
    return Plan(
        name=repository.name,
        revision=repository.revision,
        licence=repository.licence,
        model_type=checkpoint.model_type,
        architecture=checkpoint.architecture,
        kind=checkpoint.kind,
        tasks=checkpoint.tasks,
        route=route,
        variants=variants,
        hidden_size=checkpoint.hidden_size,
        vocab_size=checkpoint.vocab_size,
        embedding_size=checkpoint.embedding_size,
        pooling=checkpoint.pooling.modes if checkpoint.pooling else (),
        modules=tuple(
            in_words(module)
            for module in checkpoint.rows or checkpoint.token_rows
            if not isinstance(module, Pooling)
        ),
        normalize=checkpoint.normalize,
        matryoshka=checkpoint.matryoshka,
        similarity=checkpoint.similarity,
        prompts=checkpoint.prompts,
        default_prompt_name=checkpoint.default_prompt_name,
        labels=checkpoint.head.labels if checkpoint.head else (),
        max_seq_len=tokenization.max_seq_len,
        limit_from=_limit_from(spec, checkpoint, tokenization),
        weights=weights,
        code=checkpoint.code,
        assumed=checkpoint.assumed,
        tower=checkpoint.tower,
        output=str(target),
        replaces=(target / MANIFEST_FILE).is_file(),
        files=files,
    )


def describe(plan: Plan) -> str:
    """A plan as lines of two columns, and one of each further tower."""
    towers = "".join(f"\n{_described(tower)}" for tower in plan.towers.values())
    return f"{_described(plan)}{towers}Nothing was written.\n"


def _described(plan: Plan) -> str:
    size = sum(plan.weights.values())
    matryoshka = (
        ("any size" if plan.matryoshka else "no")
        if isinstance(plan.matryoshka, bool)
        else ", ".join(map(str, plan.matryoshka))
    )
    facts = [
        ("model", " ".join(filter(None, [plan.name, plan.revision and f"at {plan.revision}"]))),
        ("licence", plan.licence or "not stated"),
        ("architecture", f"{plan.architecture} ({plan.model_type}), {plan.kind.replace('_', ' ')}"),
        ("tower", plan.tower or ""),
        ("tasks", ", ".join(plan.tasks)),
        ("pooling", ", ".join(plan.pooling)),
        *(("assumed", what) for what in plan.assumed),
        *(("module", module) for module in plan.modules),
        ("embedding", _embedding(plan, matryoshka)),
        ("limit", f"{plan.max_seq_len} tokens, from {plan.limit_from}"),
        *(("prompt", _prompt(plan, name, text)) for name, text in plan.prompts.items()),
        ("labels", ", ".join(plan.labels)),
        ("weights", f"{size / 1e6:.1f} MB in {len(plan.weights)} file{'s' if len(plan.weights) > 1 else ''}"),
        *(("code", f"{name}  sha256 {sha256}") for name, sha256 in plan.code.items()),
        ("graph", f"{', '.join(plan.variants)}; {plan.route}"),
        ("would write", plan.output + (" (replacing the bundle there)" if plan.replaces else "")),
        *(("", name) for name in plan.files),
    ]
    return "".join(f"{name:<14}{value}\n" for name, value in facts if value)


def _embedding(plan: Plan, matryoshka: str) -> str:
    if plan.embedding_size is None:
        return ""
    normalized = "normalised" if plan.normalize else "not normalised"
    return f"{plan.embedding_size} components, {normalized}, compared by {plan.similarity}, Matryoshka: {matryoshka}"


def _prompt(plan: Plan, name: str, text: str) -> str:
    return f"{name} = {text!r}" + (" (default)" if name == plan.default_prompt_name else "")


def _limit_from(spec: ExportSpec, checkpoint: Checkpoint, tokenization: Tokenization) -> str:
    limit = tokenization.max_seq_len
    if limit == spec.max_seq_len:
        return "--max-seq-len"
    if limit == checkpoint.stated_max_seq_len:
        return "model2vec" if checkpoint.model_type == "model2vec" else "sentence_bert_config.json"
    if limit == getattr(tokenization.tokenizer, "model_max_length", None):
        return "model_max_length in tokenizer_config.json"
    if limit == checkpoint.max_positions:
        return "max_position_embeddings in config.json"
    return "the architecture's table"


def _given_variant(path: Path, spec: ExportSpec, checkpoint: Checkpoint) -> str:
    """Look at an ONNX file as wrapping it would; returns its variant's name."""
    check_wraps(checkpoint)
    path = expanded(path).absolute()
    graph = load_graph(path)
    check_inputs(graph, path)
    choose_output(graph, checkpoint, path, spec.output_name)
    return precision(graph)[0]


def _files(
    checkpoint: Checkpoint, chosen: Chosen | None, variants: tuple[str, ...], weights_bytes: int
) -> tuple[str, ...]:
    names = [MANIFEST_FILE, TOKENIZER_FILE, PROBES_FILE, *_REPORTS]
    for variant in variants:
        stem = VARIANTS[variant].stem
        stems: tuple[str, ...] = (stem,)
        if VARIANTS[variant].target == "cuda":
            stems = graph_stems(
                describe_for_cuda(checkpoint, None if chosen is None else chosen.described), variant
            )
        if VARIANTS[variant].target == "openvino":
            describe_for_openvino(checkpoint, None if chosen is None else chosen.described)
            names += [f"onnx/{OPENVINO_STEM}.onnx"] * (f"onnx/{OPENVINO_STEM}.onnx" not in names)
            continue
        names += [f"onnx/{each}.onnx" for each in stems]
        if weights_bytes * VARIANTS[variant].stored.size_share > EXTERNAL_DATA_BYTES:
            names.append(f"onnx/{stem}.onnx_data")
    names += [f"modules/{index}.npz" for index in range(len(weighted(checkpoint.twin)))]
    if not isinstance(checkpoint.what, Static):
        names += ["config.json", "tokenizer_config.json", "special_tokens_map.json"]
    return tuple(names)
