"""Requests as the openai client sends them: /v1/embeddings and /v1/models."""

from __future__ import annotations

import base64
from typing import Any, Literal

import msgspec

from embedge._serve.models import Answer, Input, Models, num_tokens, prompts_of
from embedge._serve.options import ServeOptions
from embedge.params import PoolingParams


class EmbeddingsRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Body of /v1/embeddings: OpenAI's fields, and those of the SDK that extra_body= may have.

    Attributes:
        input: texts or token ids.
        model: name of a served bundle.
        encoding_format: numbers, or base64 of float32 in little-endian order.
        dimensions: components of a Matryoshka model.
        user: taken and passed over.
        normalize: see PoolingParams.
        prompt_name: see EdgeModel.embed.
        tower: see EdgeModel.embed.
        truncate_prompt_tokens: see PoolingParams.
    """

    input: Input
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    tower: str | None = None
    truncate_prompt_tokens: int | None = None


async def embeddings(request: EmbeddingsRequest, models: Models, options: ServeOptions) -> Answer:
    """Embed."""
    model = models.named(request.model)
    prompts = prompts_of(request.input, "input", options.max_inputs)
    outputs = await model.aembed(
        prompts,
        pooling_params=PoolingParams(dimensions=request.dimensions, normalize=request.normalize),
        prompt_name=request.prompt_name,
        tower=request.tower,
        truncate_prompt_tokens=request.truncate_prompt_tokens,
    )
    rows = outputs.numpy().astype("<f4", copy=False)
    encoded: list[Any] = (
        rows.tolist()
        if request.encoding_format == "float"
        else [base64.b64encode(row.tobytes()).decode("ascii") for row in rows]
    )
    tokens = num_tokens(outputs)
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": embedding}
            for index, embedding in enumerate(encoded)
        ],
        "model": model.info.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Answer(body=body, model=model.info.name, num_inputs=len(prompts), num_tokens=tokens)


def listed(models: Models) -> dict[str, Any]:
    """Body of /v1/models."""
    return {"object": "list", "data": [described(models, name) for name in models.by_name]}


def described(models: Models, name: str) -> dict[str, Any]:
    """Body of /v1/models/NAME.

    Raises:
        Refusal: there is none of that name.
    """
    info = models.named(name).info
    return {"id": info.name, "object": "model", "created": 0, "owned_by": "embedge", "tasks": info.tasks}
