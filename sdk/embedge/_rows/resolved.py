"""What the rows of one prompt are computed with."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge.types import Task


class ResolvedParams(msgspec.Struct, frozen=True, kw_only=True):
    """What one prompt is computed with, every default filled; the SDK's own, derived from a verified clone.

    Attributes:
        task: never None.
        truncate_prompt_tokens: as in PoolingParams.
        normalize, dimensions: for embed and token_embed: cut to dimensions, then normalised; None keeps all.
        truncate_dim: for embed: components that are kept after that, and not normalised again.
        use_activation: for classify, score and token_classify.
        step_tag_id, returned_token_ids: for STEP pooling.
        extra_kwargs: for plugins.
        requires_token_ids: for plugins.
    """

    task: Task
    truncate_prompt_tokens: int | None = None
    normalize: bool = False
    dimensions: int | None = None
    truncate_dim: int | None = None
    use_activation: bool = False
    step_tag_id: int | None = None
    returned_token_ids: tuple[int, ...] | None = None
    extra_kwargs: dict[str, Any] | None = None
    requires_token_ids: bool = False

    @property
    def size(self) -> int | None:
        """Components that are left of an embedding, whenever it is cut; None where all are."""
        return self.truncate_dim if self.dimensions is None else self.dimensions
