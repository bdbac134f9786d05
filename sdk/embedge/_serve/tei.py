"""Requests as clients of text-embeddings-inference send them: /embed, /embed_sparse, /predict, /rerank, /info."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np

from embedge._serve import cohere
from embedge._serve.models import Answer, Input, Models, check_number, num_tokens, prompts_of
from embedge._serve.options import ServeOptions
from embedge._serve.refusals import Refusal
from embedge._version import __version__
from embedge.model import EdgeModel
from embedge.params import PoolingParams
from embedge.types import Side

_SIDES: dict[str, Side] = {"Left": "left", "Right": "right", "left": "left", "right": "right"}


class _Request(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What requests share.

    Attributes:
        truncate: whether what is beyond the model's limit is dropped; refused otherwise.
        truncation_direction: where from.
        model: name of a served bundle, an addition to TEI's; None takes the first that has the task.
    """

    truncate: bool | None = False
    truncation_direction: Literal["Left", "Right", "left", "right"] = "Right"
    model: str | None = None

    @property
    def cut(self) -> dict[str, Any]:
        """Arguments of a verb that cut."""
        if not self.truncate:
            return {}
        return {"truncate_prompt_tokens": -1, "truncation_side": _SIDES[self.truncation_direction]}


class EmbedRequest(_Request, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Body of /embed; unit length is TEI's default, whatever the checkpoint's."""

    inputs: Input
    normalize: bool | None = True
    prompt_name: str | None = None
    dimensions: int | None = None


class SparseRequest(_Request, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Body of /embed_sparse."""

    inputs: Input
    prompt_name: str | None = None


class PredictRequest(_Request, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Body of /predict: a text, a list of two as a pair, or a list of lists of one or two."""

    inputs: str | list[str | list[str]]
    raw_scores: bool = False


class RerankRequest(_Request, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Body of /rerank; with documents in place of texts it is Cohere's."""

    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False


async def embed(request: EmbedRequest, models: Models, options: ServeOptions) -> Answer:
    """A list of components per input."""
    model = models.asked(request.model, "embed")
    prompts = prompts_of(request.inputs, "inputs", options.max_inputs)
    outputs = await model.aembed(
        prompts,
        pooling_params=PoolingParams(dimensions=request.dimensions, normalize=request.normalize),
        prompt_name=request.prompt_name,
        **request.cut,
    )
    return _answer(model, outputs.numpy().tolist(), outputs)


async def embed_sparse(request: SparseRequest, models: Models, options: ServeOptions) -> Answer:
    """A list of terms and their weights per input."""
    model = models.asked(request.model, "embed")
    prompts = prompts_of(request.inputs, "inputs", options.max_inputs)
    outputs = await model.aembed_sparse(prompts, prompt_name=request.prompt_name, **request.cut)
    body = [
        [
            {"index": index, "value": value}
            for index, value in zip(
                output.outputs.token_ids.tolist(), output.outputs.weights.tolist(), strict=True
            )
        ]
        for output in outputs
    ]
    return _answer(model, body, outputs)


async def predict(request: PredictRequest, models: Models, options: ServeOptions) -> Answer:
    """Labels with the likeliest first; for one text or pair a list, for a batch a list of lists."""
    model = models.asked(request.model, "classify")
    single, prompts = _classified(request.inputs)
    check_number(prompts, "inputs", options.max_inputs)
    outputs = await model.aclassify(
        prompts, pooling_params=PoolingParams(use_activation=not request.raw_scores), **request.cut
    )
    body = []
    for output in outputs:
        order = np.argsort(-output.outputs.data, kind="stable")
        values = output.outputs.data.tolist()
        body.append([{"score": values[i], "label": output.outputs.labels[i]} for i in order])
    return _answer(model, body[0] if single else body, outputs)


def _classified(inputs: str | list[str | list[str]]) -> tuple[bool, list[Any]]:
    """Whether it is one text or pair, and prompts."""
    if isinstance(inputs, str):
        return True, [inputs]
    texts = [each for each in inputs if isinstance(each, str)]
    if len(texts) == len(inputs) == 2:
        return True, [_text_or_pair(texts)]
    if not inputs or texts:
        raise Refusal(
            "value",
            "inputs is a list of other than two texts; expected a text, a pair of texts, or a list of lists of one or "
            'two, such as [["a text"], ["another"]]',
        )
    return False, [_text_or_pair(each) for each in inputs if isinstance(each, list)]


def _text_or_pair(texts: list[str]) -> str | dict[str, str]:
    if len(texts) == 1:
        return texts[0]
    if len(texts) == 2:
        return {"text": texts[0], "text_pair": texts[1]}
    raise Refusal("value", f"an input is a list of {len(texts)} texts; expected one, or two for a pair")


async def rerank(request: RerankRequest, models: Models, options: ServeOptions) -> Answer:
    """Scores with the best first."""
    model = models.asked(request.model, "score")
    check_number(request.texts, "texts", options.max_inputs)
    if request.truncate and _SIDES[request.truncation_direction] == "left":
        raise Refusal("value", 'truncation_direction="Left" is not offered for pairs; expected "Right"')
    ranked = await model.arerank(
        request.query,
        request.texts,
        pooling_params=PoolingParams(use_activation=False) if request.raw_scores else None,
        truncate_prompt_tokens=-1 if request.truncate else None,
    )
    body = [
        {"index": result.index, "score": result.score}
        | ({"text": result.document} if request.return_text else {})
        for result in ranked
    ]
    return Answer(body=body, model=model.info.name, num_inputs=len(body))


def rerank_request(body: bytes) -> RerankRequest | cohere.RerankRequest:
    """A body of /rerank, which clients of both call: Cohere's has documents.

    Raises:
        msgspec.MsgspecError: it is neither.
    """
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    kind: Any = cohere.RerankRequest if "documents" in fields else RerankRequest
    return msgspec.json.decode(body, type=kind)


async def either_rerank(
    request: RerankRequest | cohere.RerankRequest, models: Models, options: ServeOptions
) -> Answer:
    """Answer in the form of whose request it is."""
    if isinstance(request, cohere.RerankRequest):
        return await cohere.rerank(request, models, options)
    return await rerank(request, models, options)


def info(models: Models, options: ServeOptions) -> dict[str, Any]:
    """Body of /info: TEI's fields of the first model, and all models."""
    every = [model.info for model in models.by_name.values()]
    return {
        "model_id": every[0].name,
        "model_sha": every[0].fingerprint,
        "model_dtype": every[0].variant,
        "max_concurrent_requests": options.max_requests,
        "max_input_length": every[0].max_seq_len,
        "max_batch_tokens": every[0].max_batch_tokens,
        "max_client_batch_size": options.max_inputs,
        "auto_truncate": False,
        "version": __version__,
        "models": every,
    }


def _answer(model: EdgeModel, body: list[Any], outputs: Any) -> Answer:
    return Answer(body=body, model=model.info.name, num_inputs=len(outputs), num_tokens=num_tokens(outputs))
