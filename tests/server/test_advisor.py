from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.server.architectures import (
    BERT_BASE,
    DEEPSEEK_V2_LITE,
    DEEPSEEK_V2_LITE_OLD,
    EVERY,
    GEMMA3_12B,
    GPT_OSS_20B,
    JAMBA_MINI,
    LLAMA31_8B,
    MAMBA_28B,
    MIXTRAL_8X7B,
    QWEN3_06B,
    QWEN3_NEXT_80B,
    info,
)
from workbench.server.residency.advisor import (
    GPU_PROCESS_BYTES,
    KV_BYTES,
    Estimate,
    Fit,
    Measured,
    Prediction,
    Room,
    compute_bytes,
    estimate,
    estimate_by_size,
    from_neighbour,
    judge,
    kv_bytes,
    ollama_context,
    ollama_predicted,
    ollama_rule,
    with_measured,
)
from workbench.server.residency.architecture import ModelFacts, facts_of

MIB, GIB = 2**20, 2**30
F16 = 2


def facts(model_info: dict[str, Any], weights_bytes: int = 4 * GIB) -> ModelFacts:
    """Return the facts of a model that can be described."""
    found = facts_of(model_info, weights_bytes=weights_bytes)
    assert found is not None
    return found


# ---- keys and values, by hand

# Mixed layers of Jamba: 28 with a state of 3 x 8192 of convolution and 16 x 8192 of scan, 4 bytes
# each; of Qwen3-Next: 36 with 3 x (4096 + 2 x 16 x 128) and 128 x 4096.
JAMBA_STATE = 28 * (3 * 8192 + 16 * 8192) * 4
QWEN3_NEXT_STATE = 36 * (3 * (4096 + 2 * 16 * 128) + 128 * 4096) * 4


@pytest.mark.parametrize(
    ("model", "num_ctx", "expected"),
    [
        # layers x tokens x heads x (key + value) x bytes
        (LLAMA31_8B, 8192, 32 * 8192 * 8 * (128 + 128) * F16),
        # A key of 128 elements although 1024 / 16 is 64.
        (QWEN3_06B, 4096, 28 * 4096 * 8 * (128 + 128) * F16),
        # Every sixth layer looks back all the way, the others 1024 tokens and a step of 512.
        (GEMMA3_12B, 32768, (8 * 32768 + 40 * (1024 + 512)) * 8 * (256 + 256) * F16),
        # Every second one; 128 + 512 is padded to 768.
        (GPT_OSS_20B, 8192, (12 * 8192 + 12 * 768) * 8 * (64 + 64) * F16),
        # Experts share the attention.
        (MIXTRAL_8X7B, 32768, 32 * 32768 * 8 * (128 + 128) * F16),
        # One compressed vector of 512 and 64 with positions, no values.
        (DEEPSEEK_V2_LITE, 8192, 27 * 8192 * (512 + 64) * F16),
        (DEEPSEEK_V2_LITE_OLD, 8192, 27 * 8192 * 16 * (192 + 128) * F16),
        # Only states: (4 - 1) x 5120 of convolution and 16 x 5120 of scan.
        (MAMBA_28B, 8192, 64 * (3 * 5120 + 16 * 5120) * 4),
        (JAMBA_MINI, 8192, 4 * 8192 * 8 * (128 + 128) * F16 + JAMBA_STATE),
        (QWEN3_NEXT_80B, 8192, 12 * 8192 * 2 * (256 + 256) * F16 + QWEN3_NEXT_STATE),
        (BERT_BASE, 512, 0),
    ],
    ids=[
        *("llama3.1-8b", "qwen3-0.6b", "gemma3-12b", "gpt-oss-20b", "mixtral-8x7b"),
        *("deepseek-v2-lite", "deepseek-v2-lite-old", "mamba-2.8b", "jamba-mini"),
        *("qwen3-next-80b", "bert-base"),
    ],
)
def test_cache_is_what_is_computed_by_hand(
    model: dict[str, Any], num_ctx: int, expected: int
) -> None:
    """Keys, values and states of published models are exactly the sums written here."""
    assert expected == kv_bytes(facts(model), num_ctx)


def test_known_logs_of_llama_cpp_are_met() -> None:
    """Figures that llama.cpp prints are met to the MiB.

    gemma3-12b at 4096 with q8_0: 136 MiB in 4096 cells and 255 MiB in 1536 (a scheduler's comment
    on llama.cpp b11351); qwen35 with one layer in four: 4352 MiB at 131072 with q8_0 for 16 layers.
    """
    gemma = facts(GEMMA3_12B)
    assert (136 + 255) * MIB == kv_bytes(gemma, 4096, kv_type="q8_0")
    qwen = info(
        "qwen35",
        vocabulary=248_320,
        block_count=65,
        nextn_predict_layers=1,
        embedding_length=5120,
        context_length=262_144,
        full_attention_interval=4,
        attention__head_count=24,
        attention__head_count_kv=4,
        attention__key_length=256,
        attention__value_length=256,
        ssm__conv_kernel=4,
        ssm__inner_size=6144,
        ssm__state_size=128,
        ssm__group_count=16,
    )
    states = 48 * (3 * (6144 + 2 * 16 * 128) + 128 * 6144) * 4
    assert 4352 * MIB + states == kv_bytes(facts(qwen), 131_072, kv_type="q8_0")


@pytest.mark.parametrize(
    ("architecture", "keys", "whole", "window", "states"),
    [
        ("gemma2", {"block_count": 4}, 2, 4096, 0),
        ("gemma2", {"block_count": 4, "attention__sliding_window": 0}, 4, None, 0),
        ("llama4", {"block_count": 8, "attention__sliding_window": 100}, 2, 8192, 0),
        ("smallthinker", {"block_count": 5}, 2, 4096, 0),
        ("exaone4", {"block_count": 30}, 30, None, 0),
        ("exaone4", {"block_count": 64}, 16, 4096, 0),
        # A window that llama.cpp does not use.
        ("phi3", {"block_count": 4, "attention__sliding_window": 2047}, 4, None, 0),
        # The file says which: whatever the architecture.
        (
            "gemma4",
            {
                "block_count": 4,
                "attention__sliding_window": 512,
                "attention__sliding_window_pattern": [True, True, False, True],
            },
            1,
            512,
            0,
        ),
        # Every layer has keys and a state.
        (
            "falcon-h1",
            {
                "block_count": 3,
                "ssm__conv_kernel": 4,
                "ssm__inner_size": 8,
                "ssm__state_size": 2,
            },
            3,
            None,
            3,
        ),
        ("lfm2", {"block_count": 3, "attention__head_count_kv": [0, 2, 0], "shortconv__l_cache": 3},
         1, None, 2),
        ("rwkv7", {"block_count": 2, "wkv__head_size": 64, "token_shift_count": 2}, 0, None, 2),
        # Layers with a feed-forward part and nothing else keep nothing.
        (
            "nemotron_h",
            {
                "block_count": 4,
                "attention__head_count_kv": [0, 0, 2, 0],
                "feed_forward_length": [0, 99, 0, 99],
                "ssm__conv_kernel": 4,
                "ssm__inner_size": 8,
                "ssm__state_size": 2,
            },
            1,
            None,
            1,
        ),
        ("gemma3n", {"block_count": 30, "attention__sliding_window": 512}, 4, 512, 0),
        (
            "llama",
            {"block_count": 6, "attention__shared_kv_layers": 2},
            4,
            None,
            0,
        ),
    ],
)  # fmt: skip
def test_layers_are_told_apart(
    architecture: str, keys: dict[str, Any], whole: int, window: int | None, states: int
) -> None:
    """Whole, windowed and recurrent layers are those of llama.cpp."""
    defaults = {"embedding_length": 64, "attention__head_count": 4, "attention__head_count_kv": 2}
    layers = facts(info(architecture, vocabulary=10, **{**defaults, **keys})).layers
    assert whole == sum(layer.window is None and layer.elements > 0 for layer in layers)
    assert {window} == {layer.window for layer in layers if layer.window} or window is None
    assert states == sum(layer.state_bytes > 0 for layer in layers)


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"jamba.attention.head_count_kv": None}, "how many heads of keys each layer has"),
        ({"jamba.vocab_size": None}, "the size of its vocabulary"),
        ({"jamba.attention.head_count_kv": 8}, "which of its layers have keys"),
    ],
)
def test_metadata_that_tell_less_are_doubted(changes: dict[str, Any], doubt: str) -> None:
    """What is left out gives an estimate of low confidence with the reason, and never less."""
    full, less = facts(JAMBA_MINI), facts({**JAMBA_MINI, **changes})
    found = estimate(less, 8192)
    assert ("low", True) == (found.confidence, doubt in found.reason)
    assert kv_bytes(less, 8192) >= kv_bytes(full, 8192)
    assert "high" == estimate(full, 8192).confidence


def test_vocabulary_is_counted_where_it_is_not_told() -> None:
    """Without its number the tokens themselves are counted."""
    model = {**LLAMA31_8B, "tokenizer.ggml.tokens": ["a"] * 300}
    del model["llama.vocab_size"]
    assert 300 == facts(model).vocabulary


@pytest.mark.parametrize(
    "model_info", [{}, {"general.architecture": "clip"}, {"general.architecture": 3}]
)
def test_metadata_of_no_model_give_no_facts(model_info: dict[str, Any]) -> None:
    """Metadata without layers describe no model."""
    assert facts_of(model_info, weights_bytes=1) is None


@given(
    name=st.sampled_from(sorted(EVERY)),
    num_ctx=st.integers(4, 300_000),
    more=st.integers(0, 300_000),
    parallel=st.integers(1, 8),
)
def test_estimate_grows_with_context_and_slots(
    name: str, num_ctx: int, more: int, parallel: int
) -> None:
    """More context, more slots or larger elements never need less, and the range holds."""
    model = facts(EVERY[name])
    small, large = estimate(model, num_ctx), estimate(model, num_ctx + more)
    assert small.needed_bytes <= large.needed_bytes
    assert small.low_bytes <= small.needed_bytes <= small.high_bytes
    assert small.high_bytes <= large.high_bytes
    sizes = [kv_bytes(model, num_ctx, kv_type=kind) for kind in sorted(KV_BYTES, key=KV_BYTES.get)]  # type: ignore[arg-type]
    assert sizes == sorted(sizes)
    one, many = kv_bytes(model, num_ctx), kv_bytes(model, num_ctx, parallel=parallel)
    assert parallel * one == many


def test_buffers_of_a_step_hold_the_scores_of_the_vocabulary() -> None:
    """The buffer of one step is 4 bytes x 512 tokens x (vocabulary + width of the model)."""
    assert 258.5 * MIB == compute_bytes(facts(LLAMA31_8B), 8192)
    assert 398.375 * MIB == compute_bytes(facts(GPT_OSS_20B), 8192)


def test_estimate_is_the_sum_of_its_parts() -> None:
    """llama3.1-8b: files, 1 GiB for 8192 tokens, a step, and a process on the GPU."""
    found = estimate(facts(LLAMA31_8B, 4_920_753_328), 8192)
    parts = (4_920_753_328, GIB, int(258.5 * MIB), GPU_PROCESS_BYTES)
    assert parts == (
        found.weights_bytes,
        found.kv_bytes,
        found.compute_bytes,
        found.overhead_bytes,
    )
    assert (sum(parts), "estimated", "high") == (
        found.needed_bytes,
        found.source,
        found.confidence,
    )


def test_context_is_never_longer_than_the_model() -> None:
    """A wish beyond the trained context is estimated as what the engine makes of it."""
    model = facts(QWEN3_06B)
    assert estimate(model, 40_960) == estimate(model, 10**6)


def test_measurement_with_another_context_corrects() -> None:
    """What one context took moves the estimate of another; a longer one never needs less."""
    short, long, longer = (estimate(facts(LLAMA31_8B), n) for n in (1024, 4096, 8192))
    measured = with_measured(long, Measured(6 * GIB), overhead_bytes=0)
    less, more = (from_neighbour(one, long, measured) for one in (short, longer))
    assert less.needed_bytes < measured.needed_bytes < more.needed_bytes
    assert longer.kv_bytes - long.kv_bytes == more.needed_bytes - measured.needed_bytes
    assert ("estimated", "estimated from what it took with a context of 4096") == (
        more.source,
        more.reason,
    )
    assert more.low_bytes <= more.needed_bytes <= more.high_bytes


def test_measured_figure_takes_the_place() -> None:
    """A measured size is the need, with what the measurement leaves out on top."""
    found = estimate(facts(LLAMA31_8B), 4096)
    measured = with_measured(found, Measured(5 * GIB, 5 * GIB), overhead_bytes=GPU_PROCESS_BYTES)
    assert ("measured", 5 * GIB + GPU_PROCESS_BYTES) == (measured.source, measured.needed_bytes)
    assert measured.low_bytes == measured.needed_bytes == measured.high_bytes


def test_size_alone_gives_a_wide_estimate() -> None:
    """Without metadata a fifth more than the files is assumed, with low confidence."""
    found = estimate_by_size(10 * GIB, 4096, overhead_bytes=0, why="nobody tells")
    assert (12 * GIB, "low") == (found.needed_bytes, found.confidence)
    assert found.low_bytes < found.needed_bytes < found.high_bytes


# ---- Ollama's rule


@pytest.mark.parametrize(
    ("model", "num_ctx", "expected"),
    [
        # files + 2 x layers x heads of keys x (width / heads) x tokens x 2 bytes
        (LLAMA31_8B, 8192, 2 * 32 * 8 * (4096 // 32) * 8192 * 2),
        # 11.25 GiB where 2.47 GiB are kept: it evicts needlessly.
        (GEMMA3_12B, 32768, 2 * 48 * 8 * (3840 // 16) * 32768 * 2),
        # Half of what is kept.
        (QWEN3_06B, 4096, 2 * 28 * 8 * (1024 // 16) * 4096 * 2),
        # The layer with the fewest heads counts for all, and none counts as one.
        (JAMBA_MINI, 8192, 2 * 32 * 1 * (4096 // 32) * 8192 * 2),
    ],
    ids=["llama3.1-8b", "gemma3-12b", "qwen3-0.6b", "jamba-mini"],
)
def test_prediction_is_ollamas(model: dict[str, Any], num_ctx: int, expected: int) -> None:
    """Ollama's own formula, with what it ignores."""
    assert 3 * GIB + expected == ollama_predicted(facts(model, 3 * GIB), num_ctx)


@pytest.mark.parametrize(
    ("num_ctx", "free", "expected"),
    [
        # 4 GiB of files and 0.5 GiB of keys: 4.5 GiB; 80 % of 5.7 GiB is 4.56, of 5.6 is 4.48.
        (4096, [5.7], (4.5, True, 512)),
        (4096, [5.6], (4.5, False, 512)),
        # Above 4096 tokens a batch of 1024 costs 0.75 GiB, where 75 % of the free memory is more.
        (8192, [8], (5.75, True, 1024)),
        (8192, [6.5], (5, True, 512)),
        # Above 32768 tokens 2048 costs 2 GiB below 60 %, else 1024 or 512.
        (36_864, [20], (4 + 4.5 + 2, True, 2048)),
        (36_864, [13], (4 + 4.5 + 0.75, True, 1024)),
        (36_864, [10.7], (8.5, True, 512)),
        # One card when it fits there, else all of them.
        (4096, [3, 6], (4.5, True, 512)),
        (4096, [3, 3], (4.5, True, 512)),
    ],
)
def test_rule_of_80_percent(
    num_ctx: int, free: list[float], expected: tuple[float, bool, int]
) -> None:
    """It loads beside others up to 80 % of what is free, batch included."""
    found = ollama_rule(facts(LLAMA31_8B), num_ctx, free_bytes=[int(card * GIB) for card in free])
    assert expected == (found.predicted_bytes / GIB, found.fits, found.batch)


def test_models_that_write_no_text_get_no_larger_batch() -> None:
    """An embedding model is predicted without what a batch costs."""
    found = ollama_rule(facts(LLAMA31_8B), 36_864, free_bytes=[20 * GIB], writes=False)
    assert (8.5, 512) == (found.predicted_bytes / GIB, found.batch)


@pytest.mark.parametrize(
    ("total", "expected"),
    [(None, 4096), (8, 4096), (22.9, 4096), (23, 32_768), (24, 32_768), (47, 262_144)],
)
def test_default_context_is_ollamas(total: float | None, expected: int) -> None:
    """Without a wish the memory of the GPUs decides."""
    assert expected == ollama_context(None if total is None else int(total * GIB))


# ---- verdicts


def need(gib: float) -> Estimate:
    """Return an estimate that needs so much."""
    found = estimate(facts(LLAMA31_8B), 4096)
    return replace(found, needed_bytes=int(gib * GIB))


def room(total: float, free: float, held: float = 0, **changes: Any) -> Room:
    """Return a GPU with so many GiB."""
    loaded = ("other",) if held else ()
    figures = {"total_bytes": int(total * GIB), "free_bytes": int(free * GIB)}
    return Room(**{**figures, "held_bytes": int(held * GIB), "loaded": loaded, **changes})


@pytest.mark.parametrize(
    ("needed", "place", "verdict", "answers"),
    [
        # (alone, alongside, offload)
        (5, room(8, 7), "alongside", (True, True, False)),
        (5, room(8, 2, held=5), "alone", (True, False, False)),
        (2, room(8, 4, held=3), "alongside", (True, True, False)),
        (10, room(8, 7, spill_bytes=16 * GIB), "offload", (False, False, True)),
        (10, room(8, 7, spill_bytes=2 * GIB), "too_large", (False, False, True)),
        (10, room(8, 7), "offload", (False, False, True)),
        # What others than our models hold stays held.
        (5, room(8, 1, held=3), "offload", (False, False, True)),
        (5, room(8, 7, on_gpu=False, margin_bytes=0), "alongside", (True, True, False)),
        (9, room(8, 7, on_gpu=False, margin_bytes=0), "too_large", (False, False, False)),
        (
            5,
            room(64, 60, on_gpu=False, margin_bytes=0, budget_bytes=4 * GIB),
            "too_large",
            (False, False, False),
        ),
        (
            2,
            room(64, 60, held=3, on_gpu=False, margin_bytes=0, budget_bytes=4 * GIB),
            "alone",
            (True, False, False),
        ),
    ],
)
def test_three_answers(
    needed: float, place: Room, verdict: str, answers: tuple[bool, bool, bool]
) -> None:
    """Alone, alongside and offload follow from what is free, what would leave, and the margin."""
    found = judge(need(needed), place)
    assert (verdict, answers) == (
        found.verdict,
        (found.alone.fits, found.alongside.fits, found.offload.will),
    )
    assert "GiB" in found.reason


def test_share_that_runs_on_the_cpu() -> None:
    """10 GiB where 7 are free and 1 must stay so: 4 of 10 run on the CPU."""
    found = judge(need(10), room(8, 7))
    assert 0.4 == found.offload.share
    assert "40% would run on the CPU" in found.offload.reason


@pytest.mark.parametrize(("needed", "takes_several"), [(6.5, False), (7.5, True), (12, True)])
def test_model_larger_than_any_one_gpu_says_so(needed: float, takes_several: bool) -> None:
    """Two GPUs of 8 GiB have room for 12 GiB together; that no single one has is not hidden."""
    two = room(16, 16, largest_bytes=8 * GIB, margin_bytes=2 * GIB)
    found = judge(need(needed), two)
    assert ("alongside", takes_several) == (found.verdict, "takes several" in found.reason)
    assert "takes several" not in judge(need(needed), room(16, 16)).reason


@pytest.mark.parametrize(
    ("needed", "fits", "verdict", "reason"),
    [
        (2, True, "alongside", "Ollama predicts 3.0 GiB and keeps other: it loads up to 4.0 GiB"),
        (2, False, "alone", "Ollama predicts 3.0 GiB and would evict other"),
        # Ollama sees room where there is none: it would split the model without a word.
        (6, True, "alone", "unload one first"),
    ],
)
def test_ollamas_rule_decides_beside_others(
    needed: float, fits: bool, verdict: str, reason: str
) -> None:
    """On Ollama its own prediction says whether others stay; our estimate, whether that is true."""
    rule = Prediction(3 * GIB, (4 if fits else 2) * GIB, 512)
    found = judge(need(needed), room(12, 5, held=6), rule)
    assert (verdict, fits) == (found.verdict, found.alongside.fits)
    assert reason in found.reason


def test_unknown_memory_is_an_unknown_answer() -> None:
    """Without free memory nothing is claimed, and the reason is the device's."""
    found = judge(need(5), Room(reason="the driver has not answered for 3 s"))
    assert ("unknown", None, None, None) == (
        found.verdict,
        found.alone.fits,
        found.alongside.fits,
        found.offload.will,
    )
    assert "the driver has not answered for 3 s" == found.reason
    assert None is found.row()["free_bytes"]


@given(
    needed=st.floats(0.1, 64),
    free=st.floats(0, 24),
    held=st.floats(0, 24),
    more=st.floats(0, 24),
)
def test_more_free_memory_never_fits_less(
    needed: float, free: float, held: float, more: float
) -> None:
    """With more free memory a model that fitted still fits, and less of it is split."""

    def answer(extra: float) -> Fit:
        return judge(need(needed), room(80, free + extra, held))

    before, after = answer(0), answer(more)
    assert not (before.alone.fits and not after.alone.fits)
    assert not (before.alongside.fits and not after.alongside.fits)
    assert (after.offload.share or 0) <= (before.offload.share or 0)
