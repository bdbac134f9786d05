"""Flags of `embedge export`, and the ExportSpec that they mean."""

from __future__ import annotations

import argparse
from pathlib import Path

from embedge.types import Task
from embedge_export.flag_values import POOLINGS, matryoshka, names, pooling, positive, prompt
from embedge_export.precisions import VARIANTS
from embedge_export.spec import DEFAULT_OPSET, OPSETS, ExportSpec

_TASKS: tuple[Task, ...] = ("embed", "token_embed", "classify", "token_classify", "score")
_FOR_CPU = ", ".join(name for name, each in VARIANTS.items() if each.target == "cpu")

_EXAMPLES = """examples:
  embedge export sentence-transformers/all-MiniLM-L6-v2 --variants fp32,int8
  embedge export ./my-finetuned-model -o bundle --prompt "query=query: " --dry-run
  embedge export --only-verify bundle --source ./my-finetuned-model
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint and every flag."""
    parser.epilog = _EXAMPLES
    _add_facts(parser.add_argument_group("the checkpoint, and what it is against its own files"))
    _add_words(parser.add_argument_group("words of rerankers and reward models"))
    _add_graphs(parser.add_argument_group("graphs"))
    _add_ways(parser.add_argument_group("other ways, and what is shown"))


def read_spec(args: argparse.Namespace) -> ExportSpec:
    """What the flags mean.

    Raises:
        ExportError: they contradict each other.
    """
    return ExportSpec(
        model=args.model if args.only_verify is None else args.source,
        output=args.output if args.only_verify is None else args.only_verify,
        name=args.name,
        bundle_version=args.bundle_version,
        task=args.task,
        tower=args.tower,
        pooling=args.pooling or (),
        normalize=args.normalize,
        matryoshka=args.matryoshka,
        prompts=dict(args.prompt),
        default_prompt_name=args.default_prompt,
        labels=args.labels,
        max_seq_len=args.max_seq_len,
        yes_token=args.yes_token,
        no_token=args.no_token,
        instruction=args.instruction,
        step_tag=args.step_tag,
        revision=args.revision,
        opset=args.opset,
        route=args.route,
        reference=args.reference,
        optimize_for=args.optimize_for,
        from_onnx=args.from_onnx,
        probes=args.probes,
        output_name=args.output_name,
        accept_worse=args.accept_worse,
        trust_remote_code=args.trust_remote_code,
        force=args.force,
        variants=args.variants,
        ignore_keys=tuple(args.ignore_key),
        full_report=args.full_report,
        kind=args.kind,
        witness=args.witness,
    )


def check_usage(args: argparse.Namespace) -> None:
    """End the program with the usage where flags do not go together."""
    if args.json and not args.dry_run:
        args.usage_error("--json needs --dry-run")
    if args.probes is not None and args.from_onnx is None:
        args.usage_error("--probes needs --from-onnx")
    if args.only_verify is not None:
        _check_only_verify(args)
    elif args.model is None:
        args.usage_error("the following arguments are required: MODEL")
    elif args.source is not None:
        args.usage_error("--source needs --only-verify")
    if args.from_onnx is None and (args.output_name is not None or args.accept_worse):
        args.usage_error("--output-name and --accept-worse need --from-onnx")
    if args.from_onnx is not None and args.only_verify:
        args.usage_error("--from-onnx does not go with --only-verify")
    if args.no_token is not None and args.yes_token is None:
        args.usage_error("--no-token needs --yes-token")


def _check_only_verify(args: argparse.Namespace) -> None:
    if args.source is None:
        args.usage_error("--only-verify needs --source, the checkpoint that the bundle was made from")
    if args.model is not None or args.output is not None:
        args.usage_error(
            "--only-verify takes the bundle itself and the checkpoint by --source, neither MODEL nor -o"
        )
    if args.json:
        args.usage_error("--json does not go with --only-verify")


def _add_facts(parser: argparse._ActionsContainer) -> None:
    """What the checkpoint is, against what its files say."""
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="folder of a checkpoint, or a hub id such as org/name"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder to write (default: the bundle store)"
    )
    parser.add_argument("--name", help="what to call the model (default: as its files say)")
    parser.add_argument("--bundle-version", metavar="V", help="of the bundle, as you count them, e.g. 1.2")
    parser.add_argument("--task", choices=_TASKS, metavar="TASK", help=f"main task: {', '.join(_TASKS)}")
    parser.add_argument(
        "--tower",
        metavar="ROUTE",
        help="one tower of a model that embeds queries and documents apart (default: all)",
    )
    parser.add_argument(
        "--kind",
        choices=("sparse",),
        metavar="KIND",
        help="sparse: read a masked language model as SPLADE, as SparseEncoder does",
    )
    parser.add_argument(
        "--pooling",
        type=pooling,
        metavar="MODE[,MODE]",
        help=f"against the checkpoint's own: {', '.join(POOLINGS)}",
    )
    _add_normalize(parser)
    parser.add_argument(
        "--matryoshka",
        type=matryoshka,
        metavar="SIZES",
        help="sizes that may be asked for, as 64,128, or 'any'",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        type=prompt,
        default=[],
        metavar="NAME=TEXT",
        help="store a prompt; repeatable",
    )
    parser.add_argument("--default-prompt", metavar="NAME", help="prompt applied when a call names none")
    parser.add_argument(
        "--labels", type=names, default=(), metavar="A,B", help="names of a classifier's labels"
    )
    parser.add_argument("--max-seq-len", type=positive, metavar="N", help="longest text in tokens")
    parser.add_argument(
        "--ignore-key",
        action="append",
        default=[],
        metavar="KEY",
        help="pass over a key of JSON files that is not known here; repeatable",
    )


def _add_normalize(parser: argparse._ActionsContainer) -> None:
    """Both ways, of which one may be asked for."""
    normalize = parser.add_mutually_exclusive_group()
    normalize.add_argument(
        "--normalize",
        dest="normalize",
        action="store_true",
        default=None,
        help="unit length; or --no-normalize (default: the checkpoint's)",
    )
    normalize.add_argument("--no-normalize", dest="normalize", action="store_false", help=argparse.SUPPRESS)


def _add_words(parser: argparse._ActionsContainer) -> None:
    """Words of rerankers and reward models."""
    parser.add_argument("--yes-token", metavar="TEXT", help="causal reranker: the token that means relevant")
    parser.add_argument("--no-token", metavar="TEXT", help="causal reranker: the token that means irrelevant")
    parser.add_argument("--instruction", metavar="TEXT", help="causal reranker: instruction of the template")
    parser.add_argument(
        "--step-tag", metavar="TEXT", help="process reward model: token at which steps are read"
    )


def _add_graphs(parser: argparse._ActionsContainer) -> None:
    """Which graphs are made, how, and what of."""
    parser.add_argument("--revision", help="commit, branch or tag of a hub repository")
    parser.add_argument(
        "--opset",
        type=int,
        choices=OPSETS,
        metavar="N",
        help=f"trace the graph with this ONNX operator set, {OPSETS[0]} to {OPSETS[-1]} (default: {DEFAULT_OPSET})",
    )
    parser.add_argument(
        "--route",
        choices=("auto", "build", "trace"),
        default="auto",
        metavar="HOW",
        help="build the graph, trace it, or auto (default): build where the family is known",
    )
    parser.add_argument(
        "--reference",
        choices=("auto", "torch", "numpy"),
        default="auto",
        metavar="WHAT",
        help="compare with torch, numpy, or auto (default): torch where it is installed",
    )
    parser.add_argument(
        "--optimize-for",
        choices=("cpu", "cuda", "openvino"),
        default="cpu",
        help="whose operators the graphs are made of (default: %(default)s)",
    )
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run Python code that the checkpoint brings"
    )
    parser.add_argument(
        "--variants",
        type=names,
        default=("fp32",),
        metavar="NAME[,NAME]",
        help=f"graphs to write, of {_FOR_CPU} (default: fp32); --optimize-for adds those of a device",
    )
    parser.add_argument(
        "--full-report", action="store_true", help="judge variants by the whole retrieval set; takes minutes"
    )
    parser.add_argument(
        "--no-witness",
        dest="witness",
        action="store_false",
        help="leave out the comparison with the checkpoint's own library",
    )
    parser.add_argument("--force", action="store_true", help="replace a bundle that is already there")


def _add_ways(parser: argparse._ActionsContainer) -> None:
    """What is done instead of an export from weights, and what is shown."""
    parser.add_argument(
        "--from-onnx",
        type=Path,
        metavar="FILE",
        help="wrap this ONNX file; MODEL has its config and tokenizer, and weights if there are any",
    )
    parser.add_argument(
        "--probes",
        type=Path,
        metavar="FILE",
        help='with --from-onnx: answers to verify it with, a JSON list of {"text", "embedding"} or a probes.json',
    )
    parser.add_argument(
        "--output-name",
        metavar="NAME",
        help="with --from-onnx: the output to read, where its name is none that is known",
    )
    parser.add_argument(
        "--accept-worse",
        action="store_true",
        help="with --from-onnx: wrap a file that misses its gate, too; the manifest says by how much",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what was understood and would be done, or only compare with --only-verify; write nothing",
    )
    parser.add_argument(
        "--only-verify",
        type=Path,
        metavar="BUNDLE",
        help="compare a bundle with its checkpoint again; the manifest then states what it lacked",
    )
    parser.add_argument(
        "--source", metavar="MODEL", help="with --only-verify: the checkpoint that the bundle was made from"
    )
    parser.add_argument("--json", action="store_true", help="with --dry-run: print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
