"""ExportSpec: everything that the caller decides about one export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from embedge.errors import ExportError, did_you_mean
from embedge.manifest import Target
from embedge.types import PoolingMode, Task
from embedge_export.precisions import CUDA_VARIANTS, OPENVINO_VARIANTS, VARIANTS

OPSETS = range(17, 23)
DEFAULT_OPSET = 18


def expanded(path: Path | str) -> Path:
    """A path with ~ in its place.

    Raises:
        ExportError: nobody's home directory is known by that name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        reason = str(error).rstrip(".")
        raise ExportError(f"{path} is at no known place: {reason}. Name the whole path.") from error


class ExportSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One export. None, and an empty collection, mean what the checkpoint itself states.

    Attributes:
        model: folder of a Hugging Face or sentence-transformers checkpoint, or a hub id.
        output: folder to write; None writes into the bundle store.
        name: what messages and the store call the model.
        task: the bundle's main task.
        tower: of a model that embeds queries and documents apart, which of its towers; None puts all into one bundle.
        pooling: pooling modes, concatenated in this order.
        normalize: default of PoolingParams.normalize.
        bundle_version: of the bundle, as its maker counts them.
        matryoshka: sizes that `dimensions` may take, or True for any.
        prompts: stored prompts by name, added to the checkpoint's own.
        default_prompt_name: prompt applied when a call names none.
        labels: names of a classifier's labels, by index.
        max_seq_len: limit in tokens, specials included.
        yes_token, no_token: tokens whose logits a causal reranker compares.
        instruction: instruction of a causal reranker's template.
        step_tag: token at which a process reward model is read, as text.
        revision: commit, branch or tag of a hub repository.
        opset: version of the ONNX operator set of a traced graph; where it is given, the graph is traced.
        route: "build" the graph from the weights or refuse, "trace" it, or "auto": build it where the family is known.
        reference: "torch" asks the checkpoint in torch, "numpy" in numpy, without torch and transformers; "auto": in
            torch where both are installed.
        optimize_for: "cuda" writes "fp16_cuda", of CUDA's operators, in place of "fp16"; "bf16_cuda" where float16
            would overflow. "openvino" adds "fp32_openvino" and "bf16_openvino", or the one that is named.
        from_onnx: wrap this ONNX file instead of tracing the weights.
        probes: file of texts and answers to verify `from_onnx` with.
        output_name: output of `from_onnx` that is read, where its name is none that is known.
        accept_worse: wrap `from_onnx` though it misses its gate; the manifest says by how much.
        trust_remote_code: run the Python code that the checkpoint brings along.
        force: replace a bundle that `output` already holds.
        kind: "sparse" reads a masked language model that has no other files as SPLADE, as SparseEncoder does.
        witness: compare the bundle with the checkpoint's own library, too.
        variants: of "fp32", "fp16", "fp16_cuda", "bf16_cuda", "fp32_openvino", "bf16_openvino", "int8", "uint8",
            "int4".
        ignore_keys: keys of the checkpoint's JSON files to pass over, though they are not known here.
        full_report: judge variants by the whole retrieval set instead of a part.
    """

    model: str
    output: Path | None = None
    name: str | None = None
    task: Task | None = None
    tower: str | None = None
    pooling: tuple[PoolingMode, ...] = ()
    normalize: bool | None = None
    bundle_version: str | None = None
    matryoshka: bool | tuple[int, ...] | None = None
    prompts: dict[str, str] = msgspec.field(default_factory=dict)
    default_prompt_name: str | None = None
    labels: tuple[str, ...] = ()
    max_seq_len: int | None = None
    yes_token: str | None = None
    no_token: str | None = None
    instruction: str | None = None
    step_tag: str | None = None
    revision: str | None = None
    opset: int | None = None
    route: Literal["auto", "build", "trace"] = "auto"
    reference: Literal["auto", "torch", "numpy"] = "auto"
    optimize_for: Target = "cpu"
    from_onnx: Path | None = None
    probes: Path | None = None
    output_name: str | None = None
    accept_worse: bool = False
    trust_remote_code: bool = False
    force: bool = False
    variants: tuple[str, ...] = ("fp32",)
    ignore_keys: tuple[str, ...] = ()
    full_report: bool = False
    kind: Literal["sparse"] | None = None
    witness: bool = True

    def __post_init__(self) -> None:
        _check_names(self.variants)
        if self.optimize_for == "cuda":
            others = tuple(name for name in self.variants if name not in ("fp16", *CUDA_VARIANTS))
            named = tuple(name for name in CUDA_VARIANTS if name in self.variants)
            msgspec.structs.force_setattr(self, "variants", (*others, *(named or CUDA_VARIANTS[:1])))
        if self.optimize_for == "openvino":
            others = tuple(name for name in self.variants if name not in OPENVINO_VARIANTS)
            named = tuple(name for name in OPENVINO_VARIANTS if name in self.variants)
            msgspec.structs.force_setattr(self, "variants", (*others, *(named or OPENVINO_VARIANTS)))
        if self.optimize_for != "cpu" and self.from_onnx is not None:
            raise ExportError(
                f"optimize_for={self.optimize_for!r} is given with from_onnx; expected one of them: that file keeps "
                "its operators"
            )
        if not self.model:
            raise ExportError("model is empty; expected a checkpoint's folder or a hub id")
        if self.max_seq_len is not None and self.max_seq_len < 1:
            raise ExportError(f"max_seq_len={self.max_seq_len} is out of range; expected at least 1")
        if self.opset is not None and self.opset not in OPSETS:
            raise ExportError(
                f"opset={self.opset} is out of range; expected {OPSETS[0]} to {OPSETS[-1]}. "
                f"Omit it for {DEFAULT_OPSET}."
            )
        if self.opset is not None and self.route == "build":
            raise ExportError(
                f"opset={self.opset} is given with route 'build'; expected one of them: built graphs have their own"
            )
        if self.probes is not None and self.from_onnx is None:
            raise ExportError("probes are given without from_onnx; expected the ONNX file that they verify")
        if self.from_onnx is None and (self.output_name is not None or self.accept_worse):
            given = "accept_worse" if self.output_name is None else "output_name"
            raise ExportError(f"{given} is given without from_onnx; expected the ONNX file that it is about")
        if self.no_token is not None and self.yes_token is None:
            raise ExportError("no_token is given without yes_token; expected both, or yes_token alone")


def _check_names(names: Sequence[str]) -> None:
    """Refuse variants that do not exist, twice the same, or none.

    Raises:
        ExportError: the message lists those that exist.
    """
    unknown = [name for name in names if name not in VARIANTS]
    if unknown or not names or len(set(names)) < len(names):
        what = f"variant {unknown[0]!r} does not exist" if unknown else f"variants {list(names)} is no choice"
        meant = did_you_mean(unknown[0], VARIANTS) if unknown else ""
        raise ExportError(f"{what}; expected some of {', '.join(VARIANTS)}, each once.{meant}")
