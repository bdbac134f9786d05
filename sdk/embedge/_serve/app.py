"""The paths of a server, as an ASGI application."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedge._serve import cohere, openai, tei
from embedge._serve.handling import Endpoint, Served, as_json, check_caller, handle, refused
from embedge._serve.refusals import Interface, Refusal

ENDPOINTS = (
    Endpoint("/embed", "tei", msgspec.json.Decoder(tei.EmbedRequest).decode, tei.embed),
    Endpoint("/embed_sparse", "tei", msgspec.json.Decoder(tei.SparseRequest).decode, tei.embed_sparse),
    Endpoint("/predict", "tei", msgspec.json.Decoder(tei.PredictRequest).decode, tei.predict),
    Endpoint("/rerank", "tei", tei.rerank_request, tei.either_rerank),
    Endpoint(
        "/v1/embeddings", "openai", msgspec.json.Decoder(openai.EmbeddingsRequest).decode, openai.embeddings
    ),
    Endpoint("/v1/rerank", "cohere", msgspec.json.Decoder(cohere.RerankRequest).decode, cohere.rerank),
    Endpoint("/v2/rerank", "cohere", msgspec.json.Decoder(cohere.RerankRequest).decode, cohere.rerank),
)
_READ = ("/health", "/info", "/metrics", "/v1/models")


def application(served: Served) -> Starlette:
    """The application; /health answers without a key."""
    answers: dict[str, Any] = {
        "/info": lambda _: as_json(tei.info(served.models, served.options)),
        "/metrics": lambda _: Response(served.metrics.text(), media_type="text/plain; version=0.0.4"),
        "/v1/models": lambda _: as_json(openai.listed(served.models)),
        "/v1/models/{name:path}": lambda http: as_json(
            openai.described(served.models, http.path_params["name"])
        ),
    }

    async def healthy(_: Request) -> Response:
        return as_json({"status": "ok"})

    async def read(http: Request, answer: Any) -> Response:
        try:
            check_caller(http, served.options)
            response: Response = answer(http)
        except Refusal as refusal:
            response = refused(refusal, _interface(http))
        return response

    def endpoint(row: Endpoint) -> Any:
        async def asked(http: Request) -> Response:
            return await handle(http, row, served)

        return asked

    routes = [Route("/health", healthy, methods=["GET"])]
    routes += [
        Route(path, functools.partial(read, answer=answer), methods=["GET"])
        for path, answer in answers.items()
    ]
    routes += [Route(row.path, endpoint(row), methods=["POST"]) for row in ENDPOINTS]
    return Starlette(routes=routes, exception_handlers={404: _unknown, 405: _unknown})


async def _unknown(http: Request, error: Exception) -> Response:
    """A path or method that there is not."""
    known = ", ".join([f"POST {row.path}" for row in ENDPOINTS] + [f"GET {path}" for path in _READ])
    refusal = Refusal("path", f"{http.method} {http.url.path} is not served; expected one of {known}")
    response = refused(refusal, _interface(http))
    if isinstance(error, HTTPException):
        response.status_code = error.status_code
        response.headers.update(error.headers or {})  # what is allowed in place of a method
    return response


def _interface(http: Request) -> Interface:
    return "openai" if http.url.path.startswith("/v1/") else "tei"
