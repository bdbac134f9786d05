"""Graphs on the device alone: inputs and outputs stay there."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.gpu.models import feeds
from benchmarks.gpu.timing import percentiles_ms, seconds_per_run

SHAPES = [(64, 128), (256, 128), (256, 32), (32, 512)]


class DeviceGraph:
    """A graph whose pooled output stays on the first GPU.

    Args:
        graph: serialised.
        options: of the CUDA provider.
    """

    def __init__(self, graph: bytes, **options: str) -> None:
        from embedge.runtime import import_onnxruntime

        self.ort = import_onnxruntime()
        settings = self.ort.SessionOptions()
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        providers = [("CUDAExecutionProvider", {"use_tf32": "0", **options}), "CPUExecutionProvider"]
        self.session = self.ort.InferenceSession(graph, settings, providers=providers)
        self._captures = options.get("enable_cuda_graph") == "1"
        self.run_options = self.ort.RunOptions()
        self.run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def placement(self) -> dict[str, list[str]]:
        """Operators that do not run on the GPU."""
        return placement(self.session)

    def bind(self, batch: dict[str, np.ndarray]):
        """A binding with the batch on the device."""
        binding = self.session.io_binding()
        wanted = {value.name for value in self.session.get_inputs()}
        for name, array in batch.items():
            if name in wanted:
                binding.bind_ortvalue_input(name, self.ort.OrtValue.ortvalue_from_numpy(array, "cuda", 0))
        binding.bind_output("sentence_embedding", "cuda", 0)
        return binding

    def rows(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """The pooled rows on the host."""
        binding = self.bind(batch)
        self.session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]

    def seconds(self, batch: dict[str, np.ndarray]) -> float:
        """Time of one run."""
        import torch

        binding = self.bind(batch)
        return seconds_per_run(
            lambda: self.session.run_with_iobinding(binding, self.run_options), torch.cuda.synchronize
        )

    def rates(self, shapes: list[tuple[int, int]] = SHAPES) -> dict[str, float]:
        """Tokens a second; padding of the ragged batch is not counted."""
        rates = {
            f"{batch_size}x{seq_len}": batch_size * seq_len / self.seconds(feeds(batch_size, seq_len))
            for batch_size, seq_len in shapes
        }
        ragged = feeds(256, 128, ragged=True)
        rates["ragged"] = float(ragged["attention_mask"].sum()) / self.seconds(ragged)
        return rates

    def query_ms(self, seq_len: int = 16) -> dict[str, float]:
        """One short text, from host arrays to a host array."""
        batch = feeds(1, seq_len)
        wanted = {value.name for value in self.session.get_inputs()}
        batch = {name: array for name, array in batch.items() if name in wanted}
        return percentiles_ms(lambda _: self.session.run(["sentence_embedding"], batch), 300)

    def new_shape_ms(self) -> dict[str, float]:
        """Runs of shapes that no run had before, and of the same ones again; kernels and memory are there already."""
        shapes = [(24 + i, 61 + 3 * i) for i in range(8)]
        for shape in [(48, 128), *((rows - 1, size - 1) for rows, size in shapes)]:
            self.rows(feeds(*shape))

        def median(batches: list[dict[str, np.ndarray]]) -> float:
            times = []
            for batch in batches:
                began = time.perf_counter()
                self.rows(batch)
                times.append(1e3 * (time.perf_counter() - began))
            return float(np.median(times))

        batches = [feeds(*shape) for shape in shapes]
        return {"first": median(batches), "again": median(batches)}

    def replayed_query_ms(self, seq_len: int = 16) -> dict:
        """One short text by replaying a captured CUDA graph: inputs and the output at fixed places on the device."""
        batch = feeds(1, seq_len)
        plain = self.session.run(["sentence_embedding"], batch)[0] if not self._captures else None
        wanted = [value.name for value in self.session.get_inputs()]
        places = {name: self.ort.OrtValue.ortvalue_from_numpy(batch[name], "cuda", 0) for name in wanted}
        size = self.session.get_outputs()[-1].shape[-1]
        output = self.ort.OrtValue.ortvalue_from_numpy(np.zeros((1, size), np.float32), "cuda", 0)
        binding = self.session.io_binding()
        for name, value in places.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output("sentence_embedding", output)

        def run(_: int) -> np.ndarray:
            for name, value in places.items():
                value.update_inplace(batch[name])
            self.session.run_with_iobinding(binding)
            return output.numpy()

        times = percentiles_ms(run, 300)
        return times | {
            "row": run(0)[0, :8].tolist(),
            "plain": None if plain is None else plain[0, :8].tolist(),
        }


def placement(session) -> dict[str, list[str]]:
    """Operators by provider; of those on the GPU their number."""
    found: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, []).extend(node.op_type for node in part.get_nodes())
    return {name: sorted(ops) for name, ops in found.items() if name != "CUDAExecutionProvider"} | {
        "CUDAExecutionProvider": [str(len(found.get("CUDAExecutionProvider", [])))]
    }


def run_once(graph: bytes, provider: str, inputs: dict) -> tuple[np.ndarray, dict[str, list[str]]]:
    """A graph's last output, and where its operators ran."""
    from embedge.runtime import import_onnxruntime

    ort = import_onnxruntime()
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers = list(dict.fromkeys([provider, "CPUExecutionProvider"]))
    session = ort.InferenceSession(graph, settings, providers=providers)
    return session.run(None, inputs)[-1], placement(session)


def agreement(rows: list[np.ndarray], expected: list[np.ndarray]) -> dict[str, float]:
    """Smallest and mean cosine, and the largest difference of unit vectors."""
    a, e = (np.concatenate(part).astype(np.float64) for part in (rows, expected))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    cosines = (a * e).sum(1)
    return {
        "cosine_min": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
        "max_diff": float(np.abs(a - e).max()),
    }
