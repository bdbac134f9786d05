"""Average the tokens of a span: an example of a pooling plugin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedge import PluginPrompt


def span_mean(prompts: Sequence[PluginPrompt]) -> list[np.ndarray]:
    """Mean hidden state of the tokens from extra_kwargs["start"] up to extra_kwargs["end"]."""
    return [p.hidden_states[p.extra_kwargs["start"] : p.extra_kwargs["end"]].mean(axis=0) for p in prompts]
