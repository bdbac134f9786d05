"""What a careful author writes around an engine: sort by length, cut by padded tokens, put back in order."""

from __future__ import annotations


def open_tokenizer(job):
    """The checkpoint's tokenizer, cut to the limit of all subjects, without padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{job['checkpoint']}/tokenizer.json")
    tokenizer.enable_truncation(job["max_tokens"])
    tokenizer.no_padding()
    return tokenizer


def embed_sorted(tokenizer, texts, run, batch_tokens):
    """Embed texts in length-sorted batches.

    Args:
        tokenizer: of `open_tokenizer`.
        texts: any number of texts, or of pairs.
        run: (token_ids, attention_mask, token_type_ids), int64 (batch, seq_len) -> float32 (batch, dim).
        batch_tokens: padded tokens per batch, at most.
    """
    import numpy as np

    encodings = tokenizer.encode_batch(texts)
    rows = [encoding.ids for encoding in encodings]
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    embeddings = None
    start = 0
    while start < len(order):
        seq_len = len(rows[order[start]])
        batch = order[start : start + max(1, batch_tokens // seq_len)]
        token_ids = np.zeros((len(batch), seq_len), dtype=np.int64)  # 0 is [PAD]
        attention_mask = np.zeros_like(token_ids)
        token_type_ids = np.zeros_like(token_ids)
        for row, index in enumerate(batch):
            token_ids[row, : len(rows[index])] = rows[index]
            attention_mask[row, : len(rows[index])] = 1
            if not isinstance(texts[index], str):
                token_type_ids[row, : len(rows[index])] = encodings[index].type_ids
        found = run(token_ids, attention_mask, token_type_ids)
        if embeddings is None:
            embeddings = np.empty((len(rows), found.shape[1]), dtype=np.float32)
        embeddings[batch] = found
        start += len(batch)
    return embeddings


def pool(hidden_states, attention_mask):
    """Mean over the real tokens, unit length."""
    import numpy as np

    mask = attention_mask.astype(np.float32)[:, :, None]
    means = (hidden_states * mask).sum(axis=1) / mask.sum(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)
