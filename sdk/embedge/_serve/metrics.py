"""What a server counts, as Prometheus reads it; counted in the event loop's thread alone."""

from __future__ import annotations

import bisect
from collections import Counter

from embedge._serve.models import Answer

_BOUNDS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Requests by path and status, their times, and what models were asked.

    Attributes:
        in_flight: requests that are read, wait or are computed.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests: Counter[tuple[str, int]] = Counter()
        self._times: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self._inputs: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()

    def count(self, path: str, status: int, seconds: float) -> None:
        """One request that was answered; the status is 499 where the client did not wait for it."""
        self._requests[path, status] += 1
        self._times.setdefault(path, [0] * (len(_BOUNDS_S) + 1))[bisect.bisect_left(_BOUNDS_S, seconds)] += 1
        self._seconds[path] = self._seconds.get(path, 0.0) + seconds

    def count_answer(self, answer: Answer) -> None:
        """What one model was asked."""
        self._inputs[answer.model] += answer.num_inputs
        self._tokens[answer.model] += answer.num_tokens

    def text(self) -> str:
        """In Prometheus's text format."""
        lines = ["# TYPE embedge_requests_in_flight gauge", f"embedge_requests_in_flight {self.in_flight}"]
        lines.append("# TYPE embedge_requests_total counter")
        for (path, status), number in sorted(self._requests.items()):
            lines.append(f'embedge_requests_total{{path="{path}",status="{status}"}} {number}')
        lines.append("# TYPE embedge_request_seconds histogram")
        for path, counts in sorted(self._times.items()):
            so_far = 0
            for bound, number in zip([*map(str, _BOUNDS_S), "+Inf"], counts, strict=True):
                so_far += number
                lines.append(f'embedge_request_seconds_bucket{{path="{path}",le="{bound}"}} {so_far}')
            lines.append(f'embedge_request_seconds_sum{{path="{path}"}} {self._seconds[path]:.6f}')
            lines.append(f'embedge_request_seconds_count{{path="{path}"}} {so_far}')
        for name, counts_by_model in (("inputs", self._inputs), ("tokens", self._tokens)):
            lines.append(f"# TYPE embedge_{name}_total counter")
            for model, number in sorted(counts_by_model.items()):
                lines.append(f'embedge_{name}_total{{model="{_escaped(model)}"}} {number}')
        return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
