"""What a graph must be to be opened: one that an export wrote, for the manifest that it comes with."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from embedge._contents.graph import GraphFacts
from embedge.errors import BundleError

_INT64 = 7
_FLOATS = (0, 1, 10, 16)
"""float32, float16 and bfloat16 by TensorProto.DataType, and what states none."""
_RANKS = {"hidden": 3, "pooled": 2, "token": 3}


def check_graph(
    facts: GraphFacts, name: str, *, inputs: Collection[str], outputs: Mapping[str, str | None]
) -> None:
    """Refuse a graph that holds what no exporter of embedge writes.

    Args:
        facts: of the graph.
        name: of its file.
        inputs: that the manifest names.
        outputs: that the manifest names, by their field in GraphSpec.

    Raises:
        BundleError: names the first thing that is wrong.
    """
    problems = list(facts.problems)
    problems += [
        f"has an input {key!r} that is not in the manifest" for key in facts.inputs if key not in inputs
    ]
    problems += [f"lacks the input {key!r} of the manifest" for key in inputs if key not in facts.inputs]
    problems += [
        f"has an input {key!r} that is no int64 of rank 2"
        for key, info in facts.inputs.items()
        if key in inputs and (info.dtype != _INT64 or info.rank not in (None, 2))
    ]
    for field, key in outputs.items():
        if key is None:
            continue
        info = facts.outputs.get(key)
        if info is None:
            problems.append(f"lacks the output {key!r} of the manifest")
        elif info.dtype not in _FLOATS or info.rank not in (None, _RANKS[field]):
            problems.append(f"has an output {key!r} that is no float of rank {_RANKS[field]}")
    if problems:
        raise BundleError(
            f"{name} {problems[0]}, so it is no graph that embedge exported. Export the model again, or, if you know "
            "who made this bundle, open it with trust='any'."
        )
