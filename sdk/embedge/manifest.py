"""The bundle's manifest: everything about a model that the SDK needs, decided at export and written down.

`export/embedge_export` writes these structs, the SDK reads them; both are adapters to this file. Structs
are frozen and refuse unknown fields. A change of meaning or a new field raises SCHEMA_VERSION.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from embedge._contents.regular import read_regular
from embedge.errors import BundleError, ManifestError
from embedge.types import Activation, PoolingMode, Side, Task

SCHEMA_VERSION = 6
MANIFEST_FILE = "manifest.json"
PROBES_FILE = "probes.json"
TOKENIZER_FILE = "tokenizer.json"
REPORT_FILE = "report.html"
_MOST_BYTES = 8_000_000
_MOST_PROBE_BYTES = 64_000_000

Dtype: TypeAlias = Literal["float32", "float16", "bfloat16", "int8", "int4"]
Target: TypeAlias = Literal["cpu", "cuda", "openvino"]
Similarity: TypeAlias = Literal["cosine", "dot", "euclidean", "manhattan"]
ProblemType: TypeAlias = Literal["regression", "single_label_classification", "multi_label_classification"]
Sha256: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
PositiveInt: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_NO_SHA256 = "0" * 64
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, ValueError)
"""What msgspec raises for bytes that are no JSON of ours."""
TokenId: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the manifest's structs."""


class FileRecord(_Part, frozen=True, kw_only=True):
    """Size and hash of one file of the bundle."""

    size_bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Sha256


class TokenizerSpec(_Part, frozen=True, kw_only=True):
    """How text becomes token ids; tokenizer.json itself carries neither truncation nor padding.

    Attributes:
        pad_token_id: id that fills the places where attention_mask is 0.
        padding_side: where those places are; the exporter's graphs have them on the right, where causal attention does
            not see them.
        truncation_side: which end `truncate_prompt_tokens=-1` drops ("right" drops the end).
        prefix_ids, suffix_ids: special tokens put before and after every single text, e.g. CLS and SEP.
        segments: the graph gets the segment ids that the tokenizer gives a pair; otherwise every token is of type 0.
        split_special_tokens: the name of a special token in a text is split like other words.
        max_chars: `truncate_prompt_tokens=-1` also cuts a text to so many characters before it is tokenised, as
            model2vec does; they are not counted among the truncated tokens.
    """

    pad_token_id: TokenId
    padding_side: Side = "right"
    truncation_side: Side = "right"
    prefix_ids: tuple[TokenId, ...] = ()
    suffix_ids: tuple[TokenId, ...] = ()
    segments: bool = True
    split_special_tokens: bool = False
    max_chars: PositiveInt | None = None


class PoolingSpec(_Part, frozen=True, kw_only=True):
    """How token rows become one row.

    Attributes:
        modes: one mode, or several whose results are concatenated in this order.
        include_prompt: False leaves a stored prompt's tokens out of the pooling.
        step_tag_id, returned_token_ids: defaults of STEP pooling.
    """

    modes: Annotated[tuple[PoolingMode, ...], msgspec.Meta(min_length=1)]
    include_prompt: bool = True
    step_tag_id: TokenId | None = None
    returned_token_ids: tuple[TokenId, ...] | None = None


class DenseSpec(_Part, frozen=True, kw_only=True, tag_field="type", tag="dense"):
    """A Dense module; the graph's pooled output has it applied already.

    Attributes:
        file: .npz in the bundle with `weight`, float32 (out_features, in_features), perhaps `bias` (out_features,), and
            `residual` (out_features, in_features) where use_residual is set and the sizes differ.
        activation: class name in torch.nn.modules.activation or linear, e.g. "Tanh", "Identity".
        use_residual: its input is added to its output.
        per_token: it is applied to the rows of tokens, before pooling.
    """

    file: str
    in_features: PositiveInt
    out_features: PositiveInt
    activation: str = "Identity"
    use_residual: bool = False
    per_token: bool = False

    @property
    def words(self) -> str:
        """As people read it."""
        residual = " + input" if self.use_residual else ""
        return f"Dense {self.in_features}→{self.out_features} {self.activation}{residual}"


class NormalizeSpec(_Part, frozen=True, kw_only=True, tag_field="type", tag="normalize"):
    """A Normalize module that other modules follow; the last one of a model is Manifest.normalize.

    Attributes:
        per_token: as in DenseSpec.
    """

    per_token: bool = False

    @property
    def words(self) -> str:
        """As people read it."""
        return "Normalize"


class LayerNormSpec(_Part, frozen=True, kw_only=True, tag_field="type", tag="layer_norm"):
    """A LayerNorm module: mean 0 and variance 1, scale and shift.

    Attributes:
        file: .npz in the bundle with `weight` and `bias`, float32 (size,).
        size: of its rows.
        per_token: as in DenseSpec.
    """

    file: str
    size: PositiveInt
    per_token: bool = False

    @property
    def words(self) -> str:
        """As people read it."""
        return f"LayerNorm {self.size}"


ModuleSpec: TypeAlias = DenseSpec | NormalizeSpec | LayerNormSpec
"""A module around the pooling, for poolings that the graph does not have."""


class HeadSpec(_Part, frozen=True, kw_only=True):
    """What the logits of a classifier, token classifier, cross-encoder or reward model mean.

    Attributes:
        labels: one name per logit, by index.
        problem_type: as in the Hugging Face config, if it states one.
        activation: for classify and token_classify.
        score_activation: for score; the checkpoint's own activation_fn where it has one.
        logit_bias: subtracted from the logits before the activation.
    """

    labels: tuple[str, ...]
    activation: Activation
    score_activation: Activation
    problem_type: ProblemType | None = None
    logit_bias: float | None = None


class TemplateSpec(_Part, frozen=True, kw_only=True):
    """Text that a pair, or a single text, is put into.

    Attributes:
        way: how it becomes token ids, always without special tokens. "whole": all is tokenised at once and cut like
            any text, and what the template ends in is put back, as sentence-transformers does with chat templates.
            "apart": prefix, body and suffix are tokenised by themselves, and the body is cut, as Qwen3-Reranker's
            model card does.
        body: text with the fields {query} and {document}, or {text}; apart, also {instruction}.
        instructed_body: whole: the body where there is an instruction or a prompt, with the field {instruction} if
            they are shown at all; None where the template takes none.
        prefix, suffix: apart: fixed text around the body.
        instruction: used where the caller gives none.
        stripped: fields that the template strips of white space at both ends.
        restore_end: whole: put back what the template ends in.
    """

    way: Literal["whole", "apart"]
    body: str
    instructed_body: str | None = None
    prefix: str = ""
    suffix: str = ""
    instruction: str = ""
    stripped: tuple[str, ...] = ()
    restore_end: bool = True


class LateInteractionSpec(_Part, frozen=True, kw_only=True):
    """ColBERT's treatment of queries and documents.

    Attributes:
        query_marker_id, document_marker_id: token put after the first special token.
        query_len, document_len: limits in tokens, specials and marker included.
        expand_query: fill queries up to query_len with expansion_token_id.
        attend_to_expansion: whether those tokens are attended to.
        skip_token_ids: document tokens (punctuation) left out of MaxSim.
    """

    query_len: PositiveInt
    document_len: PositiveInt
    query_marker_id: TokenId | None = None
    document_marker_id: TokenId | None = None
    expand_query: bool = False
    expansion_token_id: TokenId | None = None
    attend_to_expansion: bool = False
    skip_token_ids: tuple[TokenId, ...] = ()


class GraphSpec(_Part, frozen=True, kw_only=True):
    """Names of a graph's inputs and outputs, the same in every variant.

    Attributes:
        inputs: of input_ids, attention_mask, token_type_ids, position_ids; all int64 (batch, seq_len).
        hidden: (batch, seq_len, hidden_size), the encoder's last hidden states.
        pooled: (batch, size): pooled, modules applied, neither cut nor normalised at the end; or (batch, num_labels)
            logits.
        token: (batch, seq_len, size): what token_embed cuts and normalises, or token logits.
    """

    inputs: tuple[str, ...]
    hidden: str | None = None
    pooled: str | None = None
    token: str | None = None


class EndToEnd(_Part, frozen=True, kw_only=True):
    """What a variant answers to the built-in retrieval set through the SDK, against a float32 reference.

    Figures that a kind of model does not have are absent. Vectors are compared as a user gets them.

    Attributes:
        reference: "torch" or "numpy", what the checkpoint was computed in; or "fp32" for the bundle's variant of that
            name, itself compared with the checkpoint.
        num_compared: texts or pairs that both answered.
        texts_sha256: of the texts that were asked, which come from the Python and numpy at export.
        batch_invariance: "exact" if no answer depends on the rest of its batch by more than 1e-6.
        max_batch_diff: largest absolute difference between a text alone and the same text in a batch.
        cosine_min, cosine_mean: embedders, over the texts compared.
        top_10_overlap: embedders, share of each query's ten nearest documents that the reference has as well.
        num_documents: documents searched, or per query for rerankers.
        ndcg_10, recall_10, mrr: how well the known answers are found.
        reference_ndcg_10: the same of the reference.
        spearman: embedders, correlation of cosines with the graded similarity set.
        rank_correlation: rerankers, Kendall's tau over the pairs of scores that the reference holds apart.
        max_score_diff: rerankers, as a share of the reference's range of scores where that is more than 1.
        label_agreement: classifiers, share of the texts that the reference decides clearly.
        max_prob_diff: classifiers, largest absolute difference of any probability.
    """

    reference: Literal["torch", "numpy", "fp32"]
    num_compared: int
    texts_sha256: Sha256
    batch_invariance: Literal["exact", "batch-dependent"]
    max_batch_diff: float
    cosine_min: float | None = None
    cosine_mean: float | None = None
    top_10_overlap: float | None = None
    num_documents: int | None = None
    ndcg_10: float | None = None
    recall_10: float | None = None
    mrr: float | None = None
    reference_ndcg_10: float | None = None
    spearman: float | None = None
    rank_correlation: float | None = None
    max_score_diff: float | None = None
    label_agreement: float | None = None
    max_prob_diff: float | None = None


class Fidelity(_Part, frozen=True, kw_only=True):
    """How close a variant came to the checkpoint in float32, through the SDK; Manifest.reference computed that.

    Attributes:
        num_texts: how many texts or pairs were compared.
        max_abs_diff: largest absolute difference of any component, not normalised.
        cosine_min, cosine_mean: over the texts; absent for logits.
        max_batch_diff: largest absolute difference between a text alone and the same text in a batch.
        end_to_end: what its gate was judged by; None where the export measured no more than the above.
        accepted: what of its gate it misses, in words, where whoever made the bundle wanted it all the same.
    """

    num_texts: int
    max_abs_diff: float
    max_batch_diff: float
    cosine_min: float | None = None
    cosine_mean: float | None = None
    end_to_end: EndToEnd | None = None
    accepted: str | None = None


UNMEASURED = Fidelity(num_texts=0, max_abs_diff=0.0, max_batch_diff=0.0)
"""Of a variant that was not compared, or not yet."""


PREFIX_TOKENS = "prefix_tokens"
"""Graph input, int64 (1,): of how many leading tokens of a text a run gives keys and values; 0 where it is left out."""


def prefix_names(layer: int) -> tuple[str, str]:
    """Graph inputs of a layer: keys and values of the tokens before all texts of a run; left out, there are none.

    Each is float32 (1, num_kv_heads, tokens, head_dim).
    """
    return f"prefix.{layer}.keys", f"prefix.{layer}.values"


def made_names(layer: int) -> tuple[str, str]:
    """Graph outputs of a layer: keys and values of the first `PREFIX_TOKENS` tokens, as `prefix_names` takes them."""
    return f"made.{layer}.keys", f"made.{layer}.values"


class PrefixSpec(_Part, frozen=True, kw_only=True):
    """A graph's way to compute tokens that its texts begin with once; see `prefix_names`.

    Its pooled output reads nothing but a text's last token.

    Attributes:
        num_layers: of the graph.
        numbers_per_token: of the keys and values of all layers together.
        score_heads: heads whose scores a run after a prefix holds at once.
        passed_over_id: of tokens that are not a text's last one, though real; None where there are none.
    """

    num_layers: PositiveInt
    numbers_per_token: PositiveInt
    score_heads: PositiveInt
    passed_over_id: TokenId | None = None


class Variant(_Part, frozen=True, kw_only=True):
    """One graph of the bundle.

    Attributes:
        file: the .onnx file.
        data_files: files that hold its weights, in the same folder.
        dtype: precision of the weights; of the products, where `target` is "openvino".
        target: execution provider whose operators the graph uses.
        fidelity: measured at export.
        disabled_optimizers: onnxruntime fusions that must not run on this graph.
        needs: CPU features without which it must not be chosen, as in embedge._sessions.products.
        forms: of an int8 graph's products, how many are quantised in which way; "float32" for those that are not.
        score_heads: attention heads whose scores (seq_len x seq_len each) a run holds at once, which tells the memory
            that a long text takes; None where attention is computed in blocks, or where it is not known.
        attention_block: rows of such a block on the CPU.
        causal_heads: heads whose scores onnxruntime before 1.28 holds at once, where later ones work in blocks.
        window_numbers: numbers that attention in windows, or in blocks of its own, holds for each token besides,
            of four bytes each.
        switch_lengths: texts up to such a number of tokens are computed in another order than longer ones, or in other
            bits, which may change last digits: no batch holds both.
        pad_to_multiple_of: what a batch's padded length is rounded up to.
        query_file: graph of the same numbers that answers one short text and can be captured as a CUDA graph; its large
            weights are in `data_files`. It may be `file`.
        prefix: how texts share what they begin with; None where they cannot.
    """

    file: str
    dtype: Dtype
    fidelity: Fidelity
    data_files: tuple[str, ...] = ()
    target: Target = "cpu"
    disabled_optimizers: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    forms: dict[str, int] = msgspec.field(default_factory=dict)
    score_heads: PositiveInt | None = None
    attention_block: PositiveInt | None = None
    causal_heads: PositiveInt | None = None
    window_numbers: PositiveInt | None = None
    switch_lengths: tuple[PositiveInt, ...] = ()
    pad_to_multiple_of: PositiveInt = 1
    query_file: str | None = None
    prefix: PrefixSpec | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the variant."""
        files = self.file, *self.data_files, *([] if self.query_file is None else [self.query_file])
        return tuple(dict.fromkeys(files))


class ReferenceRecord(_Part, frozen=True, kw_only=True):
    """What computed the checkpoint's own answers, which every variant was compared with.

    Attributes:
        name: torch, with the checkpoint in transformers' own class; or numpy, with its network as the exporter has it.
        version: of torch or numpy.
    """

    name: Literal["torch", "numpy"]
    version: str

    @property
    def words(self) -> str:
        """All of that in a few words."""
        return f"{self.name} {self.version}"


class WitnessRecord(_Part, frozen=True, kw_only=True):
    """What the checkpoint's own library, asked by text as its users ask it, was compared with at export.

    Attributes:
        versions: of the library, and of what it is built on, the library first.
        door: its class that answered.
        asked: what both answered, in words.
        max_abs_diff: largest absolute difference of any component of the float32 graph's answers from its own.
        reason: why it was not asked, or not all of it; None where it was.
    """

    versions: dict[str, str] = msgspec.field(default_factory=dict)
    door: str | None = None
    asked: tuple[str, ...] = ()
    max_abs_diff: float = 0.0
    reason: str | None = None

    @property
    def words(self) -> str:
        """All of that in one line."""
        if self.reason is not None:
            return f"not compared with the checkpoint's own library: {self.reason}"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        count = f"{len(self.asked)} question{'s' if len(self.asked) > 1 else ''}"
        return f"{versions}, {count}, largest difference {self.max_abs_diff:.1e}"


class SourceSpec(_Part, frozen=True, kw_only=True):
    """Where the checkpoint came from.

    Attributes:
        name: hub id, or the folder's name.
        revision: commit of the repository, where known.
        licence: as the model card states it.
        weights_sha256: hash of every weight file by its path in the checkpoint.
        ignored_keys: keys of the checkpoint's files that whoever exported it answers for.
    """

    name: str
    weights_sha256: dict[str, Sha256]
    revision: str | None = None
    licence: str | None = None
    ignored_keys: tuple[str, ...] = ()


class TowerSpec(_Part, frozen=True, kw_only=True):
    """Another tower of a model that embeds queries and documents apart: a bundle of its own inside of this one.

    Attributes:
        folder: where it lies in this bundle.
        fingerprint: of its manifest.
        shared: those of its files that another tower has as well and that lie there, by their paths in the tower's
            folder; each stands for a path in this bundle.
    """

    folder: str
    fingerprint: Sha256
    shared: dict[str, str] = msgspec.field(default_factory=dict)


class Manifest(_Part, frozen=True, kw_only=True):
    """manifest.json.

    Attributes:
        schema_version: SCHEMA_VERSION of the writer.
        name: what messages call the model.
        architecture: class named in the checkpoint's config, e.g. "BertModel".
        tasks: what the bundle can do; the first is used when a call names none.
        hidden_size: size of the encoder's hidden states.
        embedding_size: components of a full embedding; None without an embedding task.
        vocab_size: token ids are below this.
        max_seq_len: limit in tokens, specials included.
        tokenizer, pooling, modules, head, late_interaction, graph: see their structs.
        template: that pairs are put into; None where the tokenizer joins them.
        message: that single texts are put into, a chat template as sentence-transformers fills it in; a prompt is then
            its system message.
        normalize: default of PoolingParams.normalize.
        sparse: the pooled output is (batch, vocab_size) term weights.
        prompts: stored prompts by name.
        default_prompt_name: prompt applied when a call names none.
        tower: "query" or "document" of a model that embeds them apart, as it calls them; without the other one the
            bundle scores no pairs. None embeds both.
        towers: the other towers by name, where the bundle has all of them; `tower` answers calls that name none.
        matryoshka: True for every size, a tuple for these sizes only, False for none.
        dimensions: components of an embedding where a call asks for no size: sentence-transformers' truncate_dim, which
            cuts after normalising and does not normalise again; None keeps all.
        similarity: what the checkpoint compares embeddings with.
        plugin: name of the registered pooling that task "plugin" needs.
        variants: graphs by name ("fp32", "fp16", "int8" …).
        files: every file of the bundle except manifest.json, by path with forward slashes.
        source, exporter: where the bundle came from; exporter maps package names to versions,
            and files of code that the checkpoint brought to their sha256.
        fingerprint: `fingerprint(manifest)`.
        assumed: what neither the checkpoint nor the caller states, and the export took for granted, in words.
        reference: what the figures of `variants` are differences from; None where answers were given in a file.
        witness: the comparison with the checkpoint's own library; None where nobody thought of one.
        version: of the bundle, as its maker counts them; None where they do not.
        may_be_unknown: fields of this struct that a reader which does not know them passes over, since they cannot
            change a number: what later versions add. Unknown fields that are not named here are refused.
    """

    schema_version: int
    name: str
    architecture: str
    tasks: Annotated[tuple[Task, ...], msgspec.Meta(min_length=1)]
    hidden_size: PositiveInt
    vocab_size: PositiveInt
    max_seq_len: PositiveInt
    tokenizer: TokenizerSpec
    graph: GraphSpec
    variants: dict[str, Variant]
    files: dict[str, FileRecord]
    source: SourceSpec
    exporter: dict[str, str]
    fingerprint: Sha256
    embedding_size: PositiveInt | None = None
    pooling: PoolingSpec | None = None
    modules: tuple[ModuleSpec, ...] = ()
    head: HeadSpec | None = None
    template: TemplateSpec | None = None
    message: TemplateSpec | None = None
    late_interaction: LateInteractionSpec | None = None
    normalize: bool = False
    sparse: bool = False
    prompts: dict[str, str] = msgspec.field(default_factory=dict)
    default_prompt_name: str | None = None
    tower: str | None = None
    towers: dict[str, TowerSpec] = msgspec.field(default_factory=dict)
    matryoshka: bool | tuple[PositiveInt, ...] = False
    dimensions: PositiveInt | None = None
    similarity: Similarity = "cosine"
    plugin: str | None = None
    assumed: tuple[str, ...] = ()
    reference: ReferenceRecord | None = None
    witness: WitnessRecord | None = None
    version: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    may_be_unknown: tuple[str, ...] = ()

    def tower_for(self, side: Literal["query", "document"]) -> str | None:
        """The tower of a side, where the bundle has several; None where one computes both."""
        return side if self.towers and side in (self.tower, *self.towers) else None


class Probe(_Part, frozen=True, kw_only=True):
    """An input and what the float32 reference answers to it.

    Attributes:
        task: task to run.
        prompt: text, or the query of a pair.
        document: second side of a pair.
        expected: the answer as a flat list: an embedding before cut and normalisation (normalize=False),
            logits (use_activation=False), or the rows of a token task one after the other.
        prompt_name: stored prompt to apply; None applies none.
    """

    task: Task
    prompt: str
    expected: tuple[float, ...]
    document: str | None = None
    prompt_name: str | None = None


class Probes(_Part, frozen=True, kw_only=True):
    """probes.json: what `embedge verify` replays.

    Attributes:
        tolerances: largest absolute difference allowed, by variant.
        probes: inputs and expected outputs.
    """

    tolerances: dict[str, Annotated[float, msgspec.Meta(ge=0.0, le=1e3)]]
    probes: tuple[Probe, ...]


class _Preamble(msgspec.Struct):
    """What is read before the schema is known to be ours."""

    schema_version: int
    exporter: Any = None
    may_be_unknown: Any = None


class _Sealed(Manifest, frozen=True, kw_only=True):
    """manifest.json as it lies on disk.

    Attributes:
        checksum: sha256 of the file with zeros in this place; unlike the fingerprint it covers every byte.
    """

    checksum: Sha256


def dump_manifest(manifest: Manifest) -> bytes:
    """Encode a manifest as indented JSON, in the one form that `load_manifest` takes."""
    import hashlib

    # decoded afresh, as omit_defaults leaves out a default string only where it is the very same object
    facts = msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest)
    sealed = _Sealed(**msgspec.structs.asdict(facts), checksum=_NO_SHA256)
    content = msgspec.json.format(msgspec.json.encode(sealed, order="deterministic"), indent=2) + b"\n"
    before, zeros, after = content.rpartition(_NO_SHA256.encode())
    return before + hashlib.sha256(before + zeros + after).hexdigest().encode() + after


def load_manifest(folder: Path, name: str = MANIFEST_FILE) -> Manifest:
    """Read and validate manifest.json of a bundle folder, or that of a tower inside of it by its path.

    Raises:
        ManifestError: not JSON, another schema version, an unknown, missing or wrong field.
    """
    path = folder / name
    written_by = "that wrote it"
    try:
        data = read_regular(folder, name, _MOST_BYTES)
        preamble = msgspec.json.decode(data, type=_Preamble)
        if isinstance(preamble.exporter, dict) and isinstance(preamble.exporter.get("embedge"), str):
            written_by = preamble.exporter["embedge"]
        if preamble.schema_version != SCHEMA_VERSION:
            raise ManifestError(_schema_message(path, preamble.schema_version, written_by))
        known = _without_unknown(data) if preamble.may_be_unknown else data
        sealed = msgspec.structs.asdict(msgspec.json.decode(known, type=_Sealed))
        sealed.pop("checksum")
        manifest = Manifest(**sealed)
        unchanged = fingerprint(manifest) == manifest.fingerprint and (
            dump_manifest(manifest) == data if known is data else _is_sealed(data)
        )
    except ManifestError:
        raise
    except BundleError as error:
        raise ManifestError(str(error)) from error
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}. Expected a readable file.") from error
    except _UNREADABLE as error:
        raise ManifestError(
            f"{path} is not a valid manifest: {_in_a_line(error)}. "
            f"Export the model again, or install the embedge version {written_by}."
        ) from error
    if not unchanged:
        raise ManifestError(
            f"{path} was changed after export: its content does not match its checksum and its fingerprint "
            f"{manifest.fingerprint[:12]}…. Restore the file, or export the model again."
        )
    return manifest


def _without_unknown(data: bytes) -> bytes:
    """manifest.json without the fields that may be unknown and are; the very same where there are none."""
    stated = msgspec.json.decode(data)
    known = {field.encode_name for field in msgspec.structs.fields(_Sealed)}
    may_be = stated["may_be_unknown"] if isinstance(stated["may_be_unknown"], list) else []
    unknown = {name for name in may_be if isinstance(name, str)} & (set(stated) - known)
    if not unknown:
        return data
    return msgspec.json.encode({name: value for name, value in stated.items() if name not in unknown})


def _is_sealed(data: bytes) -> bool:
    """Whether a manifest with unknown fields is in the one form, with the checksum of its bytes."""
    import hashlib

    stated = msgspec.json.decode(data)
    checksum = str(stated["checksum"]).encode()
    before, found, after = data.rpartition(checksum)
    zeros = _NO_SHA256.encode() if found else b""
    return (
        msgspec.json.format(msgspec.json.encode(stated), indent=2) + b"\n" == data
        and hashlib.sha256(before + zeros + after).hexdigest().encode() == checksum
    )


def load_probes(folder: Path) -> Probes:
    """Read probes.json of a bundle folder.

    Raises:
        ManifestError: not JSON, an unknown, missing or wrong field.
    """
    path = folder / PROBES_FILE
    try:
        return decode_probes(read_regular(folder, PROBES_FILE, _MOST_PROBE_BYTES), str(path))
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}. Export the model again.") from error


def decode_probes(content: bytes, name: str) -> Probes:
    """Probes from the content of probes.json; `name` is what messages call it.

    Raises:
        ManifestError: not JSON, an unknown, missing or wrong field.
    """
    try:
        return msgspec.json.decode(content, type=Probes)
    except _UNREADABLE as error:
        raise ManifestError(f"{name} is not valid: {_in_a_line(error)}. Export the model again.") from error


def fingerprint(manifest: Manifest) -> str:
    """Hash what a bundle computes: facts, graphs and tokenizer, not when, where or with what it was made.

    Exporter versions, measured fidelity, reference, witness and the probes' last digits may differ between two machines
    that export the same thing, so they are left out.
    """
    import hashlib

    # decoded afresh, as omit_defaults leaves out a default string only where it is the very same object
    facts = msgspec.to_builtins(msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest))
    for field in ("fingerprint", "exporter", "assumed", "reference", "witness", "may_be_unknown"):
        facts.pop(field, None)
    for variant in facts["variants"].values():
        variant.pop("fidelity", None)
    facts["files"] = {
        name: record
        for name, record in facts["files"].items()
        if name == TOKENIZER_FILE or name.startswith(("onnx/", "modules/"))
    }
    return hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()


def _in_a_line(error: Exception) -> str:
    """What is wrong, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\ufffd" for c in str(error))[:300]


def _schema_message(path: Path, version: int, written_by: str) -> str:
    advice = "Export the model again with this version."
    if version > SCHEMA_VERSION:
        advice = (
            f"Install the embedge version {written_by} (pip install -U embedge), "
            "or export the model again with this one."
        )
    return f"{path} has schema_version {version}; this embedge reads {SCHEMA_VERSION}. {advice}"
