"""What a graph of a bundle holds, read from its bytes.

The exporter writes graphs of plain operators: no functions, nothing random, weights in the bundle. They may choose
between two branches, and go over a text in a bounded number of rounds. Everything else can run for ever, take any
amount of memory or read other files, and is refused before onnxruntime sees it. Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import msgspec

from embedge._contents.graph_loops import Loop, unbounded
from embedge._contents.graph_parts import (
    OutsideTensor,
    ValueInfo,
    entry,
    node_facts,
    outside_tensor,
    value_info,
)
from embedge._contents.graph_ranks import Node, too_many_dimensions
from embedge._contents.graph_sizes import largest, small_integers
from embedge._contents.graph_widths import numbers_per_token
from embedge._contents.wire import MalformedError, Message, fields, numbers, part, text
from embedge.errors import BundleError

MOST_NODES = 50_000
MOST_TENSORS = 50_000
_MOST_DIMS = 16
_DEEPEST = 8
_MOST_ELEMENTS = 1 << 40
_DOMAINS = ("", "ai.onnx", "com.microsoft")
_REFUSED = frozenset(
    {
        *("Scan", "SequenceMap", "Optional", "OptionalGetElement", "OptionalHasElement"),
        *(
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
            "Bernoulli",
            "Multinomial",
        ),
        *("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch", "ATen", "EPContext"),
        *("StringSplit", "RegexFullMatch"),
    }
)
"""Loops without bounds, chance, and what runs a model within the model."""
_LOOP = "Loop"
_HOLDING = frozenset({"If", _LOOP})
"""Operators that hold graphs."""
_BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    **dict.fromkeys((21, 22, 23), 4),
    15: 128,
}
"""Size of an element by TensorProto.DataType; there is none for text."""
_EXTERNAL = 1
MADE = "made."
"""How the outputs of a prefix begin, see manifest.made_names."""


class GraphFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a graph holds.

    Attributes:
        inputs, outputs: by name, without weights that are listed among the inputs.
        outside: weights in other files.
        looked_up: weights of which rows are gathered, and which nothing else reads.
        operators: number of nodes by "domain:operator".
        numbers_per_token: how many a run holds at once, see graph_widths.
        problems: what a graph from an exporter does not have, in words.
    """

    inputs: dict[str, ValueInfo]
    outputs: dict[str, ValueInfo]
    outside: tuple[OutsideTensor, ...]
    looked_up: frozenset[str]
    operators: dict[str, int]
    numbers_per_token: int
    problems: tuple[str, ...]


def read_graph(content: bytes, name: str) -> GraphFacts:
    """Read what a graph holds.

    Args:
        content: of the .onnx file.
        name: of the file, for messages.

    Raises:
        BundleError: it is no ONNX graph.
    """
    try:
        return _Reader().read(memoryview(content))
    except MalformedError as error:
        raise BundleError(f"{name} is no ONNX graph: {error}. Export the model again.") from error


def _of_texts(outputs: Mapping[str, ValueInfo]) -> list[str]:
    """Outputs that a run over texts gives; those of a prefix are empty then."""
    return [name for name in outputs if not name.startswith(MADE)]


class _Reader:
    def __init__(self) -> None:
        self._problems: dict[str, None] = {}
        self._operators: dict[str, int] = {}
        self._outside: list[OutsideTensor] = []
        self._weights: set[str] = set()
        self._gathered: set[str] = set()
        self._read: set[str] = set()
        self._known: dict[str, list[int]] = {}
        self._ranks: dict[str, int] = {}
        self._dims: dict[str, list[int]] = {}
        self._nodes: list[Node] = []
        self._outside_loops: list[Node] = []
        self._loops: list[Loop] = []
        self._named: Counter[str] = Counter()
        self._in_loop = False
        self._num_nodes = self._num_tensors = self._depth = 0

    def read(self, model: Message) -> GraphFacts:
        graphs = []
        for number, value in fields(model):
            if number == 7:
                graphs.append(part(value))
            elif number in (20, 25):
                self._refuse("has functions or training steps")
        if len(graphs) != 1:
            raise MalformedError(f"it holds {len(graphs)} graphs")
        inputs: dict[str, ValueInfo] = {}
        outputs: dict[str, ValueInfo] = {}
        for number, value in fields(graphs[0]):
            if number == 1:
                self._node(part(value))
            elif number == 5:
                self._weights.add(self._tensor(part(value), may_be_outside=True))
            elif number == 15:
                self._refuse("has sparse weights")
            elif number in (11, 12):
                name, info = value_info(part(value))
                (inputs if number == 11 else outputs)[name] = info
        stated = {name: info.rank for name, info in inputs.items() if info.rank is not None}
        for problem in (
            largest(self._nodes, self._known),
            too_many_dimensions(self._nodes, stated | self._ranks, self._known),
            unbounded(self._loops, self._weights - inputs.keys(), self._named, self._known),
        ):
            if problem is not None:
                self._refuse(problem)
        return GraphFacts(
            inputs={name: info for name, info in inputs.items() if name not in self._weights},
            outputs=outputs,
            outside=tuple(self._outside),
            looked_up=frozenset((self._weights & self._gathered) - self._read - outputs.keys()),
            operators=self._operators,
            numbers_per_token=numbers_per_token(self._outside_loops, self._dims, _of_texts(outputs)),
            problems=tuple(self._problems),
        )

    def _refuse(self, problem: str) -> None:
        self._problems.setdefault(problem)

    def _node(self, node: Message) -> None:
        self._num_nodes += 1
        if self._num_nodes > MOST_NODES:
            raise MalformedError(f"it has more than {MOST_NODES} nodes")
        operator = domain = ""
        attributes: list[Message] = []
        ends: dict[int, list[str]] = {1: [], 2: []}
        for number, value in fields(node):
            if number in ends:
                ends[number].append(text(value))
            elif number == 4:
                operator = text(value)
            elif number == 7:
                domain = text(value)
            elif number == 5:
                attributes.append(part(value))
        branches = [each for attribute in attributes for each in self._attribute(attribute, ends[2])]
        if branches and operator not in _HOLDING:
            self._refuse("has a graph within an operator")
        within, number = self._in_loop, len(self._nodes)
        if operator == _LOOP:
            self._loops.append(Loop(inputs=ends[1], within=within))
            self._in_loop = True
        results = [name for branch in branches for name in self._branch(branch)]
        self._in_loop = within
        self._named.update(ends[2])
        gathers = operator == "Gather" and domain in ("", "ai.onnx")
        self._gathered.update(ends[1][:gathers])
        self._read.update(ends[1][gathers:], results)
        if domain not in _DOMAINS:
            self._refuse(f"has an operator {operator!r} of the domain {domain!r}")
        if operator in _REFUSED:
            self._refuse(f"has an operator {operator!r}")
        # a branch's results become the node's; a round holds a part of a text, which the manifest tells, and what it
        # reads stays until all have run
        rounds = self._nodes[number:] if operator == _LOOP else []
        inputs = [*ends[1], *results, *(name for each in rounds for name in each.inputs)]
        self._nodes.append(node_facts(operator, inputs, ends[2], attributes))
        if not within:
            self._outside_loops.append(self._nodes[-1])
        key = f"{'' if domain == 'ai.onnx' else domain}:{operator}"
        self._operators[key] = self._operators.get(key, 0) + 1

    def _attribute(self, attribute: Message, outputs: list[str]) -> list[Message]:
        """Count what an attribute holds; the graphs in it. A tensor may be what a node states as its output."""
        graphs = []
        for number, value in fields(attribute):
            if number in (5, 10):
                self._tensor(part(value), may_be_outside=False, names=outputs)
            elif number in (6, 11):
                graphs.append(part(value))
            elif number in (22, 23):
                self._refuse("has sparse weights")
        return graphs

    def _branch(self, graph: Message) -> list[str]:
        """A graph within an operator; what it holds counts as of the whole. The names of its results."""
        results = []
        self._depth += 1
        if self._depth > _DEEPEST:
            raise MalformedError(f"it has branches within branches, more than {_DEEPEST} deep")
        for number, value in fields(graph):
            if number == 1:
                self._node(part(value))
            elif number == 5:
                self._tensor(part(value), may_be_outside=False)
            elif number == 15:
                self._refuse("has sparse weights")
            elif number == 12:
                results.append(value_info(part(value))[0])
        self._depth -= 1
        return results

    def _tensor(self, tensor: Message, *, may_be_outside: bool, names: list[str] | None = None) -> str:
        self._num_tensors += 1
        if self._num_tensors > MOST_TENSORS:
            raise MalformedError(f"it has more than {MOST_TENSORS} tensors")
        name, dtype, location, stored = "", 0, 0, 0
        dims: list[int] = []
        outside: dict[str, str] = {}
        raw: Message | None = None
        integers: list[Message | int] = []
        for number, value in fields(tensor):
            if number == 1:
                dims += numbers(value)
            elif number == 2 and isinstance(value, int):
                dtype = value
            elif number == 8:
                name = text(value)
            elif number == 9:
                raw = part(value)
            elif number == 13:
                key, said = entry(part(value))
                outside[key] = said
            elif number == 14 and isinstance(value, int):
                location = value
            else:  # numbers by their type, packed or one by one
                stored += 1 if isinstance(value, int) else len(value)
                integers.append(value)
        bits = self._num_bits(name, dtype, dims)
        if location == _EXTERNAL or outside:
            if may_be_outside:
                self._outside.append(outside_tensor(name, dtype, dims, bits, outside))
            else:
                self._refuse("has a constant in another file")
        elif raw is not None and len(raw) != -(-bits // 8):
            raise MalformedError(f"{name!r} has {len(raw)} bytes, and its shape needs {-(-bits // 8)}")
        elif raw is None and dtype != 8 and math.prod(dims) > 8 * stored:
            raise MalformedError(f"{name!r} has fewer values than its shape needs")
        elif (values := small_integers(dtype, dims, raw, integers)) is not None:
            self._known.update(dict.fromkeys([name, *(names or [])], values))
        self._named[name] += 1
        self._ranks.update(dict.fromkeys([name, *(names or [])], len(dims)))
        self._dims.update(dict.fromkeys([name, *(names or [])], dims))
        return name

    def _num_bits(self, name: str, dtype: int, dims: list[int]) -> int:
        if len(dims) > _MOST_DIMS or math.prod(dims) > _MOST_ELEMENTS:
            raise MalformedError(f"{name!r} has a shape that no tensor has")
        if dtype == 8:
            self._refuse("has constants of text")
            return 0
        if dtype not in _BITS:
            raise MalformedError(f"{name!r} is of an unknown type {dtype}")
        return math.prod(dims) * _BITS[dtype]
