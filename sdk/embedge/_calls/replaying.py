"""A bundle's probes asked of a loaded graph, and a variant found that answers them on this machine."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from embedge._calls.options import CallOptions, PairOptions
from embedge._calls.verbs import Verbs
from embedge._engine.choosing import Choice, choose
from embedge._engine.engine import Engine, load
from embedge._engine.options import LoadOptions
from embedge._engine.replayed import ReplayRecord, find_record, save_record
from embedge._engine.variant import suiting
from embedge._log import warning
from embedge._sessions.products import graph_features
from embedge.errors import NumericalError, SessionError
from embedge.manifest import PROBES_FILE, Manifest, Probe, Probes, decode_probes
from embedge.params import PoolingParams
from embedge.types import FloatArray, PathLike, Task

_ANYTHING = {
    "task": None,
    "pooler_config": None,
    "pooling_plugin": None,
    "truncate_prompt_tokens": None,
    "max_model_len": None,
    "cuda_graphs": False,
}
"""Options that change what a model answers, as probes are asked without them."""


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of the probes for one variant.

    Attributes:
        variant: which graph.
        num_probes: how many were compared.
        max_abs_diff: largest absolute difference from what the bundle expects.
        tolerance: largest that the bundle allows.
        tower: of a model that embeds queries and documents apart, which of its towers.
        lacks: what the variant needs of a processor that this one is seen to lack. Probes are few and their tolerance
            is that of 8 bits, so that products which overflow may be within it.
    """

    variant: str
    num_probes: int
    max_abs_diff: float
    tolerance: float
    tower: str | None = None
    lacks: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance, which NaN is not, and the processor has what is needed."""
        return self.max_abs_diff <= self.tolerance and not self.lacks


def replay(engine: Engine) -> list[ProbeReport]:
    """Ask a model that was loaded without a pooling or limit of its own what its probes ask.

    Returns:
        A report, and one more for each further tower.

    Raises:
        BundleError: there are no probes, or they were altered.
        SessionError: onnxruntime failed.
    """
    bundle = engine.choice.bundle
    probes = engine.pinned.probes
    if probes is None:
        probes = decode_probes(bundle.read(PROBES_FILE), str(bundle.file(PROBES_FILE)))
    reports = [_report(engine, probes)]
    for tower in engine.towers.values():
        reports += replay(tower)
    return reports


def _report(engine: Engine, probes: Probes) -> ProbeReport:
    verbs = Verbs(engine, engine.options)
    diffs = [_difference(verbs, probe) for probe in probes.probes]
    variant = engine.info.variant
    return ProbeReport(
        variant=variant,
        num_probes=len(diffs),
        max_abs_diff=max(diffs, default=float("nan")),
        tolerance=probes.tolerances.get(variant, 0.0),
        tower=engine.manifest.tower,
        lacks=_lacking(engine.choice),
    )


def _lacking(choice: Choice) -> tuple[str, ...]:
    needs = choice.variant.spec.needs if choice.on_cpu else ()
    return tuple(sorted(set(needs) - graph_features())) if needs else ()


def load_replayed(model: PathLike, options: LoadOptions) -> Engine:
    """Load the first variant, from the one that is asked for on, that answers its probes on this machine.

    Args:
        model: a bundle's folder, or its name in the store.
        options: the caller's wishes; `probes` says when probes are replayed, and when an earlier outcome holds.

    Raises:
        SessionError: no variant does.
        BundleError, ParamsError, PluginError, ProviderUnavailableError: as `load`.
    """
    if options.probes == "never":
        return load(model, options)
    refused: dict[str, str] = {}
    asked = options
    while True:
        choice = choose(model, asked)
        name = choice.variant.name
        record = find_record(choice) if options.probes == "once" else None
        engine = None
        if record is None:
            engine, record = _replayed(model, asked)
        if record.passed:
            if engine is None or not _is_plain(asked):
                del engine
                engine = load(model, asked)
            if engine.manifest.fingerprint == record.fingerprint:
                return _saying(engine, refused)
            continue  # another bundle was put in its place meanwhile
        del engine
        refused[name] = record.outcome
        warning(
            "bundle %r: variant %s is refused on this machine: %s", choice.manifest.name, name, record.outcome
        )
        asked = msgspec.structs.replace(asked, variant=_next(choice, refused))


def raw_params(task: Task, manifest: Manifest) -> PoolingParams:
    """Parameters that give what probes hold: embeddings before cut and normalisation, logits before activation.

    Texts beyond the limit are cut. Scores of late interaction have nothing to leave out.
    """
    params = PoolingParams(truncate_prompt_tokens=-1)
    if task in ("embed", "token_embed"):
        params.normalize = False
        if manifest.dimensions is not None and task == "embed":
            params.dimensions = manifest.embedding_size
    elif manifest.late_interaction is None:
        params.use_activation = False
    return params


def _replayed(model: PathLike, options: LoadOptions) -> tuple[Engine, ReplayRecord]:
    engine = load(model, msgspec.structs.replace(options, **_ANYTHING))
    try:
        reports = replay(engine)
        outcome = "; ".join(
            f"{report.num_probes} probes, largest difference {report.max_abs_diff:.1e}, "
            f"allowed {report.tolerance:.0e}"
            for report in reports
        )
        passed = all(report.passed for report in reports)
    except (NumericalError, SessionError) as error:
        outcome, passed = f"its probes end in: {error}", False
    return engine, save_record(engine.choice, outcome, passed=passed)


def _is_plain(options: LoadOptions) -> bool:
    return all(getattr(options, name) == value for name, value in _ANYTHING.items())


def _next(choice: Choice, refused: Mapping[str, str]) -> str:
    for name in suiting(choice.manifest, choice.device.kind):
        if name not in refused:
            return name
    outcomes = "; ".join(f"{name}: {outcome}" for name, outcome in refused.items())
    raise SessionError(
        f"bundle {choice.manifest.name!r} has no variant that computes on this machine what it computed at export "
        f"({outcomes}). Use another onnxruntime version or device, or export the model again; probes='never' loads "
        "it all the same."
    )


def _saying(engine: Engine, refused: Mapping[str, str]) -> Engine:
    if not refused:
        return engine
    reason = (
        f"{', '.join(refused)} refused on this machine, where probes gave other numbers than at export; "
        f"{engine.info.variant} is the next that gives its own"
    )
    return msgspec.structs.replace(engine, info=msgspec.structs.replace(engine.info, variant_reason=reason))


def _difference(verbs: Verbs, probe: Probe) -> float:
    actual = _answer(verbs, probe).ravel()
    expected = np.asarray(probe.expected, dtype=np.float32)
    if actual.shape != expected.shape:
        return float("inf")
    # a step model may keep no row at all
    return float(np.abs(actual - expected).max(initial=0.0))


def _answer(verbs: Verbs, probe: Probe) -> FloatArray:
    params = raw_params(probe.task, verbs.engine.manifest)
    if probe.task == "score" and probe.document is not None:
        return verbs.score(probe.prompt, probe.document, None, PairOptions(pooling_params=params)).numpy()
    pair = {"text": probe.prompt, "text_pair": probe.document}
    options = CallOptions(
        pooling_params=params,
        pooling_task=probe.task,
        prompt_name=probe.prompt_name,
        prompt="" if probe.prompt_name is None else None,
    )
    outputs = verbs.encode(probe.prompt if probe.document is None else pair, options)
    return outputs[0].outputs.data
