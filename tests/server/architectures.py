"""Metadata of published models, as their GGUF files hold them; sizes of files are rounded."""

from __future__ import annotations

from typing import Any


def info(architecture: str, *, vocabulary: int, **keys: Any) -> dict[str, Any]:
    """Return `model_info`; `__` in a keyword is the dot of a key."""
    own = {f"{architecture}.{key.replace('__', '.')}": value for key, value in keys.items()}
    return {"general.architecture": architecture, f"{architecture}.vocab_size": vocabulary, **own}


LLAMA31_8B = info(
    "llama",
    vocabulary=128_256,
    block_count=32,
    embedding_length=4096,
    feed_forward_length=14336,
    context_length=131_072,
    attention__head_count=32,
    attention__head_count_kv=8,
)
QWEN3_06B = info(
    "qwen3",
    vocabulary=151_936,
    block_count=28,
    embedding_length=1024,
    feed_forward_length=3072,
    context_length=40_960,
    attention__head_count=16,
    attention__head_count_kv=8,
    attention__key_length=128,
    attention__value_length=128,
)
GEMMA3_12B = info(
    "gemma3",
    vocabulary=262_208,
    block_count=48,
    embedding_length=3840,
    feed_forward_length=15360,
    context_length=131_072,
    attention__head_count=16,
    attention__head_count_kv=8,
    attention__key_length=256,
    attention__value_length=256,
    attention__sliding_window=1024,
)
GPT_OSS_20B = info(
    "gpt-oss",
    vocabulary=201_088,
    block_count=24,
    embedding_length=2880,
    feed_forward_length=2880,
    context_length=131_072,
    attention__head_count=64,
    attention__head_count_kv=8,
    attention__key_length=64,
    attention__value_length=64,
    attention__sliding_window=128,
)
MIXTRAL_8X7B = info(
    "llama",
    vocabulary=32_000,
    block_count=32,
    embedding_length=4096,
    feed_forward_length=14336,
    context_length=32_768,
    expert_count=8,
    expert_used_count=2,
    attention__head_count=32,
    attention__head_count_kv=8,
)
DEEPSEEK_V2_LITE = info(
    "deepseek2",
    vocabulary=102_400,
    block_count=27,
    embedding_length=2048,
    feed_forward_length=10944,
    context_length=163_840,
    attention__head_count=16,
    attention__head_count_kv=1,
    attention__kv_lora_rank=512,
    attention__key_length=576,
    attention__value_length=512,
    attention__key_length_mla=192,
    attention__value_length_mla=128,
    rope__dimension_count=64,
)
# As it was converted before llama.cpp kept compressed keys: every head has its own.
DEEPSEEK_V2_LITE_OLD = {
    **{key: value for key, value in DEEPSEEK_V2_LITE.items() if not key.endswith("_mla")},
    "deepseek2.attention.head_count_kv": 16,
    "deepseek2.attention.key_length": 192,
    "deepseek2.attention.value_length": 128,
}
MAMBA_28B = info(
    "mamba",
    vocabulary=50_280,
    block_count=64,
    embedding_length=2560,
    feed_forward_length=0,
    context_length=1_048_576,
    attention__head_count=0,
    ssm__conv_kernel=4,
    ssm__inner_size=5120,
    ssm__state_size=16,
)
JAMBA_MINI = info(
    "jamba",
    vocabulary=65_536,
    block_count=32,
    embedding_length=4096,
    feed_forward_length=14336,
    context_length=262_144,
    attention__head_count=32,
    attention__head_count_kv=[8 if layer % 8 == 4 else 0 for layer in range(32)],
    ssm__conv_kernel=4,
    ssm__inner_size=8192,
    ssm__state_size=16,
)
QWEN3_NEXT_80B = info(
    "qwen3next",
    vocabulary=151_936,
    block_count=48,
    embedding_length=2048,
    feed_forward_length=5120,
    context_length=262_144,
    attention__head_count=16,
    attention__head_count_kv=2,
    attention__key_length=256,
    attention__value_length=256,
    ssm__conv_kernel=4,
    ssm__inner_size=4096,
    ssm__state_size=128,
    ssm__group_count=16,
)
BERT_BASE = info(
    "bert",
    vocabulary=30_522,
    block_count=12,
    embedding_length=768,
    feed_forward_length=3072,
    context_length=512,
    attention__head_count=12,
)
EVERY = {
    "llama3.1-8b": LLAMA31_8B,
    "qwen3-0.6b": QWEN3_06B,
    "gemma3-12b": GEMMA3_12B,
    "gpt-oss-20b": GPT_OSS_20B,
    "mixtral-8x7b": MIXTRAL_8X7B,
    "deepseek-v2-lite": DEEPSEEK_V2_LITE,
    "mamba-2.8b": MAMBA_28B,
    "jamba-mini": JAMBA_MINI,
    "qwen3-next-80b": QWEN3_NEXT_80B,
    "bert-base": BERT_BASE,
}
