"""`embedge serve`: bundles behind HTTP."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, get_args

from embedge.cli._console import bold, dim
from embedge.cli._parser import Parser
from embedge.errors import MissingExtraError
from embedge.types import Profile

if TYPE_CHECKING:
    from embedge._serve.models import Models


def add_parser(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `serve`."""
    parser = commands.add_parser(
        "serve",
        help="answer clients of OpenAI, TEI and Cohere over HTTP (needs the extra embedge[serve])",
        description="Answer clients of OpenAI, TEI and Cohere over HTTP, until SIGTERM or Ctrl-C.",
    )
    parser.add_argument(
        "bundles", nargs="+", metavar="BUNDLE", help="a bundle's folder, or its name in the store"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; default: this machine only"
    )
    parser.add_argument("--port", type=int, default=8080, help="default: 8080; 0 for any that is free")
    parser.add_argument(
        "--api-key",
        help="what clients have to send; default: EMBEDGE_API_KEY, which no list of processes shows",
    )
    parser.add_argument(
        "--device", default="auto", help='"cpu", "cuda", "cuda:N", "openvino" or "auto" (default)'
    )
    parser.add_argument("--variant", default="auto", help='graph to run, as "embedge inspect" lists them')
    parser.add_argument("--threads", type=int, help="processors to use; default: all")
    parser.add_argument(
        "--profile",
        choices=get_args(Profile),
        default="latency",
        metavar="NAME",
        help="latency (default): the fastest to answer one client, and a second copy of the weights once there are "
        "many; throughput: one copy; background: half of the processors",
    )
    parser.add_argument(
        "--max-requests", type=int, default=512, metavar="N", help="at a time, others get 429; default: 512"
    )
    parser.add_argument(
        "--max-inputs", type=int, default=2048, metavar="N", help="texts of a request; default: 2048"
    )
    parser.add_argument(
        "--max-body-bytes", type=int, default=8_000_000, metavar="N", help="of a request; default: 8000000"
    )
    parser.set_defaults(run=run_serve)


def run_serve(args: argparse.Namespace) -> int:
    """Serve until a signal."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed. Install it with: pip install 'embedge[serve]'"
        ) from None
    from embedge._serve.options import ServeOptions
    from embedge._serve.running import serve

    options = ServeOptions(
        host=args.host,
        port=args.port,
        api_key=args.api_key if args.api_key is not None else os.environ.get("EMBEDGE_API_KEY"),
        max_requests=args.max_requests,
        max_inputs=args.max_inputs,
        max_body_bytes=args.max_body_bytes,
    )
    model_options = {
        "device": args.device,
        "variant": args.variant,
        "threads": args.threads,
        "profile": args.profile,
    }
    serve(args.bundles, model_options, options, _say)
    return 0


def _say(models: Models, address: str) -> None:
    for model in models.by_name.values():
        info = model.info
        print(bold(info.name) + dim(f"  {', '.join(info.tasks)}; {info.variant} on {info.device}"))
    print(f"listening at {address}", flush=True)
