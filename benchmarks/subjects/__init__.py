"""What is compared. One module per system; each offers

    PACKAGES          what its user installs
    load(job)         a function from texts to a float32 array (number of texts, dim), of unit length
    files(job)        what it reads from disk
    prepare(job)      optional: makes those files once, in the environment "torch", under job["prepared"]
    load_pairs(job)   optional, for cross-encoders: a function from a query and its documents to their logits
    load_stream(job)  optional: a function from an iterable of texts to an iterator over their vectors

All do the same work: the same checkpoint, the same texts cut to the same number of tokens, mean pooling, unit length,
the same number of threads. Imports stand inside `load`, so that the child's clock sees them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A system in one configuration.

    Attributes:
        module: in benchmarks.subjects.
        label: for tables.
        environment: folder in .venvs that holds it; peers whose requirements clash live apart.
        precision: of the matrix products.
        options: for the module.
    """

    module: str
    label: str
    environment: Literal["embedge", "torch", "lean", "light-embed"]
    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    options: dict = field(default_factory=dict)


REFERENCE = "sentence-transformers"

SUBJECTS = {
    "embedge-fp32": Subject(
        module="embedge_model", label="embedge fp32", environment="embedge", options={"variant": "fp32"}
    ),
    "embedge-int8": Subject(
        module="embedge_model",
        label="embedge int8",
        environment="embedge",
        precision="int8",
        options={"variant": "int8"},
    ),
    REFERENCE: Subject(
        module="sentence_transformers_torch", label="sentence-transformers (torch)", environment="torch"
    ),
    "sentence-transformers-bf16": Subject(
        module="sentence_transformers_torch",
        label="sentence-transformers (torch, bfloat16)",
        environment="torch",
        precision="bfloat16",
    ),
    "sentence-transformers-onnx": Subject(
        module="sentence_transformers_backend",
        label="sentence-transformers (ONNX)",
        environment="torch",
        options={"backend": "onnx"},
    ),
    "sentence-transformers-openvino": Subject(
        module="sentence_transformers_backend",
        label="sentence-transformers (OpenVINO)",
        environment="torch",
        options={"backend": "openvino"},
    ),
    "sentence-transformers-openvino-int8": Subject(
        module="sentence_transformers_static",
        label="sentence-transformers (OpenVINO, static int8)",
        environment="torch",
        precision="int8",
    ),
    "light-embed": Subject(module="light_embed_custom", label="light-embed", environment="light-embed"),
    "fastembed": Subject(module="fastembed_custom", label="fastembed", environment="lean"),
    "onnxruntime": Subject(module="onnxruntime_script", label="onnxruntime script", environment="lean"),
    "onnxruntime-int8": Subject(
        module="onnxruntime_script",
        label="onnxruntime script, standard dynamic int8",
        environment="lean",
        precision="int8",
    ),
    "openvino": Subject(module="openvino_script", label="OpenVINO script", environment="lean"),
    "openvino-bf16": Subject(
        module="openvino_script", label="OpenVINO script, bfloat16", environment="lean", precision="bfloat16"
    ),
    "ctranslate2": Subject(module="ctranslate2_script", label="CTranslate2 script", environment="lean"),
    "ctranslate2-int8": Subject(
        module="ctranslate2_script", label="CTranslate2 script, int8", environment="lean", precision="int8"
    ),
    "llama-cpp": Subject(module="llama_cpp_server", label="llama.cpp (xllamacpp)", environment="lean"),
    "llama-cpp-int8": Subject(
        module="llama_cpp_server", label="llama.cpp (xllamacpp), Q8_0", environment="lean", precision="int8"
    ),
    "optimum": Subject(module="optimum_ortmodel", label="optimum ORTModel", environment="torch"),
}

KEY_SUBJECTS = (
    "embedge-fp32",
    "embedge-int8",
    REFERENCE,
    "fastembed",
    "openvino",
    "ctranslate2",
    "ctranslate2-int8",
)
"""What the targets compare; the others take as long again."""
