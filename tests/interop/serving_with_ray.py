"""Run a page's deployment on a Ray of this machine, and print what it answers: serving_with_ray.py PAGE.py BUNDLE."""

import json
import runpy
import socket
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import ray
from ray import serve

TEXTS = ["the good food", "the river", "old city light", "a time"]


def main() -> None:
    deployment = runpy.run_path(sys.argv[1])["Embeddings"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(deployment.bind(sys.argv[2]))

    def ask(text: str) -> list[list[float]]:
        body = json.dumps({"inputs": [text]}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", body, timeout=60) as answer:
            return json.load(answer)

    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip(TEXTS, pool.map(ask, TEXTS), strict=True))
    serve.shutdown()
    ray.shutdown()
    print(json.dumps(answers))  # the last line, as Ray says what it ends


if __name__ == "__main__":
    main()
