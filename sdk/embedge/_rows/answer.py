"""Encoded prompts to the rows of each task: which graph output, then pooling and heads in numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from embedge._batches.forward import FinishRows, Forward
from embedge._machine.own_memory import in_one_block
from embedge._rows.gathering import OnDone, RowBatches, gather, gather_each, telling_of_prompts
from embedge._rows.heads import activate, cut_and_normalize
from embedge._rows.modules import apply_modules, load_modules
from embedge._rows.plugin import call_plugin
from embedge._rows.pooling import POOLERS, pool, step_rows
from embedge._rows.resolved import ResolvedParams
from embedge._text.tokens import Encoded
from embedge.bundle import Bundle
from embedge.errors import NumericalError, ParamsError, PluginError, ShapeError
from embedge.manifest import Manifest
from embedge.params import PoolerConfig
from embedge.plugins import PluginPrompt, PoolingPlugin
from embedge.types import FloatArray, IntArray, PoolingMode


class Answerer:
    """Computes rows for a loaded bundle.

    Args:
        bundle: the bundle.
        forward: its graph.
        pooler_config: overrides the manifest's pooling.
        plugin: callable of the task "plugin".
    """

    def __init__(
        self,
        bundle: Bundle,
        forward: Forward,
        pooler_config: PoolerConfig | None,
        plugin: PoolingPlugin | None = None,
    ) -> None:
        manifest = bundle.manifest
        self._name = manifest.name
        self._plugin = plugin
        self._forward = forward
        self._graph = manifest.graph
        self._stored_modes = manifest.pooling.modes if manifest.pooling else ()
        self._modes = pooling_modes(manifest, pooler_config)
        self._include_prompt = manifest.pooling.include_prompt if manifest.pooling else True
        self._head = manifest.head
        self._row_size = manifest.embedding_size or (len(manifest.head.labels) if manifest.head else 0)
        self._logit_bias = pooler_config.logit_bias if pooler_config else None
        if self._logit_bias is None and manifest.head:
            self._logit_bias = manifest.head.logit_bias
        self._modules = load_modules(bundle)

    def embeddings(
        self,
        encoded: Sequence[Encoded],
        params: Sequence[ResolvedParams],
        on_done: OnDone,
        lead: Sequence[int] = (),
    ) -> FloatArray | list[FloatArray]:
        """One embedding per prompt: pooled, modules applied, cut, normalised.

        Args:
            encoded: the prompts.
            params: of each.
            on_done: called with the number of finished prompts.
            lead: tokens that prompts may begin with, computed once where the graph can.

        Returns:
            float32 (num_prompts, dim) where all prompts ask for the same size, else a list of rows.
        """
        return self._finished(lambda finish: self._pooled_rows(encoded, finish, lead), params, on_done)

    def logits(self, encoded: Sequence[Encoded], on_done: OnDone, lead: Sequence[int] = ()) -> FloatArray:
        """Logits as the graph gives them, float32 (num_prompts, num_labels); lead as of `embeddings`."""
        width = len(self._head.labels) if self._head else None
        batches = self._forward.pooled(_required(self._graph.pooled), encoded, width=width, lead=lead)
        return gather(batches, len(encoded), self._row_size, on_done)

    def probabilities(
        self, logits: FloatArray, params: Sequence[ResolvedParams], *, for_score: bool
    ) -> FloatArray:
        """Activate the logits of the prompts that ask for it, float32 of the same shape."""
        head = self._head
        if head is None:
            raise ShapeError("the bundle has logits but no head in its manifest; export the model again")
        activation = head.score_activation if for_score else head.activation
        active = np.array([p.use_activation for p in params], dtype=bool)
        probabilities = activate(logits, activation, self._logit_bias).astype(np.float32)
        unbiased = logits - np.float32(self._logit_bias or 0.0)
        return np.where(active[:, None], probabilities, unbiased) if len(params) else logits

    def token_embeddings(
        self, encoded: Sequence[Encoded], params: Sequence[ResolvedParams], on_done: OnDone
    ) -> tuple[list[FloatArray], list[IntArray]]:
        """Rows of every real token, cut and normalised, and the tokens' positions."""
        return self._token_rows(
            encoded, params, lambda rows, p: cut_and_normalize(rows, p.dimensions, p.normalize), on_done
        )

    def token_probabilities(
        self, encoded: Sequence[Encoded], params: Sequence[ResolvedParams], on_done: OnDone
    ) -> tuple[list[FloatArray], list[IntArray]]:
        """Rows of every real token's labels, and the tokens' positions."""
        activation = self._head.activation if self._head else "softmax"

        def finish(rows: FloatArray, p: ResolvedParams) -> FloatArray:
            if not p.use_activation:
                return rows - np.float32(self._logit_bias or 0.0)
            return activate(rows, activation, self._logit_bias).astype(np.float32)

        return self._token_rows(encoded, params, finish, on_done)

    def whole_tokens(self, encoded: Sequence[Encoded], on_done: OnDone) -> list[FloatArray]:
        """Token embeddings as the graph gives them for late interaction, expansion tokens included."""
        every = [ResolvedParams(task="token_embed")] * len(encoded)
        return self.token_embeddings(encoded, every, on_done)[0]

    def window_embeddings(
        self,
        windows: Sequence[Sequence[Encoded]],
        weights: Sequence[Sequence[int]],
        params: Sequence[ResolvedParams],
        on_done: OnDone,
    ) -> FloatArray | list[FloatArray]:
        """One embedding per prompt from the weighted mean of its windows; cut and normalised after that."""
        flat = [window for parts in windows for window in parts]
        counts = np.array(list(map(len, windows)), dtype=np.int64)
        batches_of_windows = telling_of_prompts(self._pooled_rows(flat), counts, on_done)
        rows = gather(batches_of_windows, len(flat), self._row_size, lambda _: None)
        ends = np.cumsum(counts)
        means = [
            np.average(rows[end - len(each) : end], axis=0, weights=each)
            for end, each in zip(ends, weights, strict=True)
        ]
        stacked = np.array(means, dtype=np.float32)

        def batches(finish: FinishRows | None) -> RowBatches:
            if means:
                yield np.arange(len(means)), stacked if finish is None else finish(stacked)

        return self._finished(batches, params, lambda _: None)

    def _finished(
        self,
        batches: Callable[[FinishRows | None], RowBatches],
        params: Sequence[ResolvedParams],
        on_done: OnDone,
    ) -> FloatArray | list[FloatArray]:
        """One array where all prompts are finished in the same way, a batch at a time; else a list of rows."""
        finish = _same_finish(params)
        if finish is not None:
            return gather(batches(finish), len(params), self._row_size, on_done)
        return gather_each(
            batches(None), len(params), lambda row, i: _finish_embedding(row, params[i]), on_done
        )

    def sparse(self, encoded: Sequence[Encoded], on_done: OnDone) -> list[tuple[IntArray, FloatArray]]:
        """Vocabulary terms with a weight above zero and their weights, heaviest first."""
        terms: list[tuple[IntArray, FloatArray]] = [(np.zeros(0, dtype=np.int64), _EMPTY)] * len(encoded)
        with closing(self._forward.pooled(_required(self._graph.pooled), encoded)) as batches:
            for positions, batch in batches:
                for position, row in zip(positions, batch, strict=True):
                    token_ids = np.flatnonzero(row > 0)
                    order = token_ids[np.argsort(-row[token_ids], kind="stable")]
                    terms[position] = order.astype(np.int64), row[order]
                on_done(len(positions))
        return terms

    def plugin_rows(
        self, encoded: Sequence[Encoded], params: Sequence[ResolvedParams], on_done: OnDone
    ) -> list[FloatArray]:
        """What the plugin makes of each prompt.

        Raises:
            PluginError: there is none, it raised, or it did not return one numeric array per prompt.
        """
        plugin = self._plugin
        if plugin is None:
            raise PluginError(
                f"bundle {self._name!r} names no pooling plugin; load it with EdgeModel(..., pooling_plugin=NAME)"
            )
        answers: list[FloatArray] = [_EMPTY] * len(encoded)
        with closing(self._forward.tokens(_required(self._graph.hidden), encoded)) as batches:
            for positions, batch in batches:
                prompts = [
                    PluginPrompt(
                        token_ids=np.asarray(encoded[position].token_ids, dtype=np.int64),
                        hidden_states=rows,
                        extra_kwargs=params[position].extra_kwargs or {},
                    )
                    for position, rows in zip(positions, batch, strict=True)
                ]
                for position, array in zip(positions, call_plugin(plugin, prompts), strict=True):
                    answers[position] = array
                on_done(len(positions))
        return answers

    def _token_rows(
        self,
        encoded: Sequence[Encoded],
        params: Sequence[ResolvedParams],
        finish: Callable[[FloatArray, ResolvedParams], FloatArray],
        on_done: OnDone,
    ) -> tuple[list[FloatArray], list[IntArray]]:
        kept_rows: list[FloatArray] = [_EMPTY] * len(encoded)
        kept_positions: list[IntArray] = [np.zeros(0, dtype=np.int64)] * len(encoded)
        with closing(self._forward.tokens(_required(self._graph.token), encoded)) as batches:
            for positions, batch in batches:
                finished: list[FloatArray] = []
                for position, rows in zip(positions, batch, strict=True):
                    p = params[position]
                    token_ids = np.asarray(encoded[position].token_ids)
                    try:
                        rows, kept_positions[position] = step_rows(
                            rows,
                            token_ids,
                            step_tag_id=p.step_tag_id,
                            returned_token_ids=p.returned_token_ids,
                        )
                    except ShapeError as error:
                        raise ParamsError(f"prompt {position}: {error}") from error
                    finished.append(finish(rows, p))
                for position, rows in zip(positions, in_one_block(finished), strict=True):
                    kept_rows[position] = rows
                on_done(len(positions))
        return kept_rows, kept_positions

    def _pooled_rows(
        self, encoded: Sequence[Encoded], finish: FinishRows | None = None, lead: Sequence[int] = ()
    ) -> RowBatches:
        leaves_prompt_out = not self._include_prompt and any(e.num_prompt_tokens for e in encoded)
        if self._graph.pooled and self._modes == self._stored_modes and not leaves_prompt_out:
            width = self._row_size or None
            yield from self._forward.pooled(self._graph.pooled, encoded, finish, width=width, lead=lead)
            return
        unknown = [mode for mode in self._modes if mode not in POOLERS]
        if unknown:
            raise ParamsError(
                f"pooling {unknown[0]} gives one row per token, not one embedding; "
                "use encode(pooling_task='token_embed'), or another pooling_type"
            )
        with closing(self._forward.batches(_required(self._graph.hidden), encoded)) as batches:
            for positions, hidden, mask in batches:
                if hidden.shape[:2] != mask.shape:
                    raise ShapeError(
                        f"the graph gave hidden states of shape {hidden.shape} for tokens of shape {mask.shape}; "
                        "export the model again"
                    )
                hidden = np.where(mask[:, :, None] > 0, hidden, 0)
                tokens = apply_modules(self._modules, hidden, per_token=True)
                kept = mask
                if not self._include_prompt:
                    kept = _without_prompts(mask, [encoded[i].num_prompt_tokens for i in positions])
                rows = pool(tokens, mask, self._modes, kept)
                rows = apply_modules(self._modules, rows, per_token=False)
                finite = np.isfinite(rows).all(axis=1)
                if not finite.all():
                    index = int(positions[~finite].min())
                    raise NumericalError(f"pooling gave NaN or infinity for prompt {index}", index=index)
                yield positions, rows if finish is None else finish(rows)


_EMPTY: FloatArray = np.zeros((0, 0), dtype=np.float32)


def pooling_modes(manifest: Manifest, pooler_config: PoolerConfig | None) -> tuple[PoolingMode, ...]:
    """The modes in force: the override's, else the bundle's."""
    if pooler_config is not None and pooler_config.pooling_type is not None:
        return (pooler_config.pooling_type,)
    return manifest.pooling.modes if manifest.pooling else ()


def _finish_embedding(rows: FloatArray, p: ResolvedParams) -> FloatArray:
    finished = cut_and_normalize(rows, p.dimensions, p.normalize)
    return finished if p.truncate_dim is None else finished[..., : p.truncate_dim]


def _same_finish(params: Sequence[ResolvedParams]) -> FinishRows | None:
    """How every prompt's row is finished, or None where they ask for different ways."""
    several = {id(p): p for p in params}.values()  # of many prompts mostly one object
    if len({(p.dimensions, p.normalize, p.truncate_dim) for p in several}) > 1:
        return None
    return lambda rows: _finish_embedding(rows, params[0])


def _without_prompts(mask: IntArray, num_prompt_tokens: Sequence[int]) -> IntArray:
    ranks = np.cumsum(mask, axis=1) * mask
    return (ranks > np.asarray(num_prompt_tokens)[:, None]).astype(np.int64)


def _required(output: str | None) -> str:
    if output is None:
        raise ParamsError("the bundle's graph lacks the output that this task needs; export the model again")
    return output
