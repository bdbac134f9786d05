"""The arguments with which a model is loaded, checked before anything is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import get_args

import msgspec

from embedge._contents.pin import check_pin
from embedge._machine.cpu import available_threads
from embedge._plain import plain
from embedge.errors import ParamsError
from embedge.params import COMPATS, PoolerConfig, PoolingParams
from embedge.types import Compat, PathLike, Profile, Replay, Task, Trust

_RUNNERS = ("auto", "pooling")
_MOST_THREADS = 256
"""Onnxruntime starts as many as it is told, which takes seconds for some hundred."""
_MAY_BE_NONE = ("task", "pooling_plugin", "fingerprint")


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Arguments of EdgeModel; each field means what it means there.

    What needs the bundle or the machine is checked where these are looked at: the variant, the device, the plugin,
    the task and the limits in tokens.

    Raises:
        ParamsError: a field has the wrong type or range.
    """

    task: Task | None = None
    device: str | Sequence[str] = "auto"
    variant: str = "auto"
    pooler_config: PoolerConfig | None = None
    pooling_plugin: str | None = None
    truncate_prompt_tokens: int | None = None
    compat: Compat = "0.13"
    threads: int | None = None
    max_batch_tokens: int | None = None
    device_memory_bytes: int | None = None
    max_memory_mb: int | None = None
    provider_options: Mapping[str, str | int | float | bool] | None = None
    retry_smaller_batches: bool = False
    cuda_graphs: bool = False
    enable_prefix_caching: bool = True
    profile: Profile = "latency"
    max_model_len: int | None = None
    verify_hashes: bool = True
    fingerprint: str | None = None
    signature: PathLike | None = None
    public_key: PathLike | None = None
    trust: Trust = "exported"
    probes: Replay = "never"
    runner: str = "auto"

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            msgspec.structs.force_setattr(self, name, plain(getattr(self, name)))
        self._check_types()
        if self.runner not in _RUNNERS:
            raise ParamsError(
                f"runner={self.runner!r} is not possible; embedge only pools: expected 'auto' or 'pooling'"
            )
        if self.compat not in COMPATS:
            raise ParamsError(f"compat={self.compat!r} is not known; expected one of {', '.join(COMPATS)}")
        if not isinstance(self.pooler_config, PoolerConfig | None):
            raise ParamsError(
                f"pooler_config is a {type(self.pooler_config).__name__}; expected PoolerConfig or None"
            )
        PoolingParams(truncate_prompt_tokens=self.truncate_prompt_tokens)  # raises what is wrong with it
        for name in ("threads", "max_batch_tokens", "device_memory_bytes", "max_memory_mb"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ParamsError(f"{name}={value!r} is out of range; expected an int >= 1")
        most = max(_MOST_THREADS, available_threads())
        if self.threads is not None and self.threads > most:
            raise ParamsError(f"threads={self.threads} is out of range; expected {most} at most")
        if self.profile not in get_args(Profile):
            raise ParamsError(
                f"profile={self.profile!r} is not known; expected one of {', '.join(get_args(Profile))}"
            )
        for name, choices in (("trust", get_args(Trust)), ("probes", get_args(Replay))):
            value = getattr(self, name)
            if value not in choices:
                raise ParamsError(f"{name}={value!r} is not known; expected one of {', '.join(choices)}")
        for name in ("signature", "public_key"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, (str, os.PathLike)) or not str(value)):
                raise ParamsError(f"{name}={value!r} is no path; expected a file of minisign, or None")
        if (self.signature is None) != (self.public_key is None):
            raise ParamsError("signature=... and public_key=... go together; expected both, or neither")
        if self.fingerprint is not None:
            check_pin(self.fingerprint)

    def _check_types(self) -> None:
        """Nothing is compared before this: of an array even that raises."""
        for name in ("retry_smaller_batches", "cuda_graphs", "enable_prefix_caching", "verify_hashes"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ParamsError(f"{name} is a {type(value).__name__}; expected True or False")
        for name in (
            "runner",
            "compat",
            "profile",
            "trust",
            "variant",
            "task",
            "pooling_plugin",
            "fingerprint",
        ):
            value = getattr(self, name)
            if not isinstance(value, str) and not (value is None and name in _MAY_BE_NONE):
                raise ParamsError(f"{name} is a {type(value).__name__}, {str(value)[:60]}; expected text")
