"""What users may import: a change here is a change for them, and belongs into CHANGELOG.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import embedge

SDK = Path(embedge.__file__).parent
PACKAGE = """
    LLM ArrayOutputs BundleError CallCancelledError ClassificationOutput ClassificationRequestOutput CorpusError
    DeadlineError DeviceMemoryError
    EdgeModel EmbeddingOutput EmbeddingRequestOutput EmbedgeError ExportError IntegrityError ManifestError
    MissingExtraError ModelConfig ModelInfo NumericalError ParamsError PluginError PluginPrompt
    PoolerConfig PoolingOutput PoolingParams PoolingRequestOutput PromptError PromptTokens ProviderUnavailableError
    RaggedOutputs RequestOutputKind RerankResult ScoringOutput ScoringRequestOutput SessionError
    ShapeError SparseEmbeddingOutput SparseEmbeddingRequestOutput TaskNotSupportedError VerificationError
    __version__ register_pooling
"""
NAMES = {
    "archive": "add pack",
    "bundle": "Bundle check_files open_bundle open_towers sha256_file",
    "cli": "",
    "corpus": """
        Counts Duplicate Entry Hit Sidecar Summary Vectors encode_files
    """,
    "errors": """
        BundleError CallCancelledError CorpusError DeadlineError DeviceMemoryError EmbedgeError ExportError
        IntegrityError ManifestError MissingExtraError NumericalError ParamsError PluginError PromptError
        ProviderUnavailableError SessionError ShapeError TaskNotSupportedError VerificationError
        did_you_mean expected_one_of
    """,
    "integrations": "",
    "integrations/chroma": "EmbedgeEmbeddingFunction",
    "integrations/haystack": "EmbedgeDocumentEmbedder EmbedgeRanker EmbedgeTextEmbedder",
    "integrations/lancedb": "EmbedgeEmbeddings",
    "integrations/langchain": "EmbedgeEmbeddings EmbedgeRerank",
    "integrations/llama_index": "EmbedgeEmbedding EmbedgeRerank",
    "integrations/qdrant": "EmbedgeVectors",
    "integrations/ray": "EncodeBatches",
    "integrations/sentence_transformers": "SentenceTransformer",
    "integrations/sklearn": "EmbedgeVectorizer",
    "integrations/spark": "encode_column",
    "manifest": """
        DenseSpec Dtype EndToEnd Fidelity FileRecord GraphSpec HeadSpec LateInteractionSpec LayerNormSpec
        MANIFEST_FILE Manifest ModuleSpec NormalizeSpec PREFIX_TOKENS PROBES_FILE PoolingSpec PositiveInt PrefixSpec
        Probe Probes ProblemType
        ReferenceRecord
        REPORT_FILE SCHEMA_VERSION Sha256 Similarity SourceSpec TOKENIZER_FILE Target TemplateSpec
        TowerSpec TokenId
        TokenizerSpec UNMEASURED Variant WitnessRecord decode_probes dump_manifest fingerprint load_manifest
        load_probes made_names prefix_names
    """,
    "measure": """
        TRIED_BATCH_TOKENS Latency SplitSpeed count_tokens fastest graph_runs measure_latency
        measure_splits sample_texts
    """,
    "model": "EdgeModel LLM",
    "outputs": """
        ArrayOutputs ClassificationOutput ClassificationRequestOutput EmbeddingOutput
        EmbeddingRequestOutput ModelInfo Offsets OutputT PoolingOutput PoolingRequestOutput PromptTokens
        RaggedOutputs RequestOutputs RerankResult ScoringOutput ScoringRequestOutput
        SparseEmbeddingOutput SparseEmbeddingRequestOutput
    """,
    "params": """
        COMPATS ModelConfig POOLING_TYPES PoolerConfig PoolingParams RequestOutputKind TASKS
    """,
    "plugins": "ENTRY_POINT_GROUP PluginPrompt PoolingPlugin find_pooling register_pooling",
    "runtime": """
        EXACT_INT8 __version__ available_threads cpu_name cuda_problem give_back has_bfloat16 import_onnxruntime
        open_on_cpu openvino_problem
    """,
    "store": """
        ARCHIVE_SUFFIX HOME_VARIABLE bundle_path check_target commit find hold_file home list_bundles name_of
        near_archive remove staging
    """,
    "testing": "TinyKind assert_embeddings_close tiny_bundle",
    "types": """
        Activation Compat FloatArray IntArray LongText PairTruncation ParsedPrompt PathLike
        PoolingMode Profile PromptInput Replay Side Task Trust
    """,
    "verify": "ProbeReport raw_params verify",
}


def public_modules() -> list[str]:
    """Modules and packages of embedge without an underscore, and the adapters for frameworks."""
    found = [path.stem for path in SDK.glob("*.py")] + [
        path.parent.name for path in SDK.glob("*/__init__.py")
    ]
    adapters = [path.stem for path in SDK.glob("integrations/*.py")]
    return sorted(
        [name for name in found if not name.startswith("_")]
        + [f"integrations/{name}" for name in adapters if not name.startswith("_")]
    )


def names_of(module: str) -> list[str]:
    """What a module offers: its `__all__`, else what it defines itself at the top without an underscore."""
    path = SDK / f"{module}.py"
    tree = ast.parse((path if path.is_file() else SDK / module / "__init__.py").read_text("utf-8"))
    defined: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            if "__all__" in names:
                return sorted(ast.literal_eval(node.value))
            defined |= names
    return sorted(name for name in defined if not name.startswith("_"))


def test_the_public_modules() -> None:
    assert public_modules() == sorted(NAMES)


@pytest.mark.parametrize("module", public_modules())
def test_the_names_of_a_public_module(module: str) -> None:
    assert names_of(module) == sorted(NAMES[module].split())


def test_the_names_of_the_package() -> None:
    assert embedge.__all__ == PACKAGE.split()
    assert all(hasattr(embedge, name) for name in embedge.__all__)
