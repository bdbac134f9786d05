"""Names for array, path and choice types that several modules share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.int64]
PathLike: TypeAlias = str | os.PathLike[str]

Task: TypeAlias = Literal["embed", "classify", "score", "token_embed", "token_classify", "plugin"]
Side: TypeAlias = Literal["left", "right"]
Activation: TypeAlias = Literal["identity", "sigmoid", "softmax"]
PoolingMode: TypeAlias = Literal["CLS", "LAST", "MEAN", "ALL", "STEP", "MAX", "MEAN_SQRT_LEN", "WEIGHTEDMEAN"]
PairTruncation: TypeAlias = Literal["longest_first", "document"]
LongText: TypeAlias = Literal["error", "truncate", "mean"]
Trust: TypeAlias = Literal["exported", "any"]
Replay: TypeAlias = Literal["never", "once", "always"]
Profile: TypeAlias = Literal["latency", "throughput", "background"]
Compat: TypeAlias = Literal["0.13", "0.21"]

PromptInput: TypeAlias = str | Sequence[int] | Mapping[str, Any]
"""One prompt: text, token ids, {"prompt": text}, {"prompt_token_ids": ids}, or for classify and score a pair
{"text": text, "text_pair": text}."""

ParsedPrompt: TypeAlias = str | list[int] | tuple[str, str]
