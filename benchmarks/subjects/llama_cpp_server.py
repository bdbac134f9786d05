"""llama.cpp's server in the process, by xllamacpp: the checkpoint as GGUF, batches and pooling by the library."""

from __future__ import annotations

from pathlib import Path

from benchmarks.subjects.sorting import open_tokenizer

PACKAGES = ("xllamacpp", "tokenizers", "numpy")
BATCH_TOKENS = 512
"""Of 256 to 2,048 the fastest on one thread: attention is computed across the texts of a batch and masked."""
SLOTS = 32
"""Texts that share a batch, at most."""


def prepare(job):
    import gguf
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(job["checkpoint"])
    kind = "Q8_0" if job["precision"] == "int8" else "F32"
    writer = gguf.GGUFWriter(_file(job), "bert")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}" if kind == "Q8_0" else "ALL_F32"])
    _add_words(writer, AutoTokenizer.from_pretrained(job["checkpoint"]), config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config.num_hidden_layers)
    for name, value in AutoModel.from_pretrained(job["checkpoint"]).state_dict().items():
        new_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        # a cross-encoder's pooler is left out, whose scores this subject does not offer
        if new_name is None or name.startswith("pooler."):
            continue
        product = value.ndim == 2 and not new_name.startswith(("position_embd", "token_types"))
        stored = gguf.GGMLQuantizationType[kind if product else "F32"]
        data = gguf.quants.quantize(value.float().numpy(), stored)
        writer.add_tensor(new_name, data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_words(writer, tokenizer, config):
    """WordPiece as llama.cpp knows it: words begin with a mark, continuations have none."""
    import gguf

    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    words += [f"[unused{number}]" for number in range(len(words), config.vocab_size)]
    control = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_type_count(config.type_vocab_size)
    writer.add_token_list(
        [
            word if word in control else word[2:] if word.startswith("##") else f"\u2581{word}"
            for word in words
        ]
    )
    writer.add_token_types(
        [gguf.TokenType.CONTROL if word in control else gguf.TokenType.NORMAL for word in words]
    )
    writer.add_bos_token_id(tokenizer.cls_token_id)
    writer.add_sep_token_id(tokenizer.sep_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_mask_token_id(tokenizer.mask_token_id)


def files(job):
    return [Path(job["checkpoint"]) / "tokenizer.json", Path(_file(job))]


def load(job):
    import numpy as np
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = _file(job)
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.embd_normalize = 2  # of unit Euclidean length
    params.n_batch = params.n_ubatch = max(BATCH_TOKENS, job["max_tokens"])
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * job["max_tokens"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    params.endpoint_slots = params.warmup = False
    params.verbosity = -1
    server, tokenizer = xllamacpp.Server(params), open_tokenizer(job)

    def embed(texts):
        # token ids, as the library refuses a longer text where others cut it
        asked = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        found = server.handle_embeddings({"input": asked})
        if "data" not in found:
            raise SystemExit(str(found))
        rows = sorted(found["data"], key=lambda row: row["index"])
        return np.array([row["embedding"] for row in rows], dtype=np.float32)

    return embed


def _file(job):
    return f"{job['prepared']}/model.gguf"
