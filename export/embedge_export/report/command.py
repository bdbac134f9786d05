"""The command line that makes the same export again, from its ExportSpec."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec

from embedge.manifest import SourceSpec
from embedge_export.spec import ExportSpec

# where to write, and over what, belongs to the machine and not to the bundle
_LEFT_OUT = {"model", "output", "force", "revision"}
_NAMES = {"default_prompt_name": "default-prompt", "prompts": "prompt"}


def export_command(spec: ExportSpec, source: SourceSpec) -> str:
    """Write a spec as `embedge export …`, without a folder of this machine: of a path only the last part is kept.

    Args:
        spec: of the export.
        source: what was exported; its name and commit stand in place of a folder or a branch.
    """
    words = ["embedge", "export", source.name]
    if source.revision is not None:
        words += ["--revision", source.revision]
    defaults = {field.name: field.default for field in msgspec.structs.fields(spec)}
    for name in spec.__struct_fields__:
        value = getattr(spec, name)
        if name in _LEFT_OUT or value is None or value == defaults[name] or value in ((), {}):
            continue
        flag = "--" + _NAMES.get(name, name.replace("_", "-"))
        if isinstance(value, dict):
            words += [word for key, text in value.items() for word in (flag, f"{key}={text}")]
        elif name == "matryoshka" and isinstance(value, bool):
            words += [flag, "any"]
        elif isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, tuple):
            words += [flag, ",".join(str(part) for part in value)]
        else:
            words += [flag, value.name if isinstance(value, Path) else str(value)]
    return shlex.join(words)
