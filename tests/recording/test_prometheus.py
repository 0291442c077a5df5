"""The text format of Prometheus, read by a parser of the format's own rules."""

from __future__ import annotations

import re

from workbench.server.recording.prometheus import Counters, Gauge

_SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')


def parse(text: str) -> dict[str, float]:
    """Return every sample by its name and labels; each line must follow the format."""
    samples = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.match(r"# (HELP|TYPE) [a-z_]+ ", line)
            continue
        found = _SAMPLE.fullmatch(line)
        assert found is not None, line
        samples[f"{found[1]}{{{found[2] or ''}}}"] = float(found[3])
    return samples


def counted() -> Counters:
    counters = Counters()
    for seconds in (0.5, 1.5, 100.0):
        counters.request_ended(
            model='odd"\\\nname',
            operation="chat",
            error_type=None,
            duration_s=seconds,
            first_token_s=0.2,
            input_tokens=10,
            output_tokens=None,
        )
    return counters


def test_histogram_counts_are_cumulative() -> None:
    """Each bucket counts all values up to its bound, the last one all."""
    samples = parse(counted().text())
    buckets = {
        name.split('le="')[1].rstrip('"}'): value
        for name, value in samples.items()
        if name.startswith("gen_ai_server_request_duration_seconds_bucket")
    }
    assert 1 == buckets["0.64"]
    assert 2 == buckets["2.56"]
    assert 3 == buckets["+Inf"]
    values = list(buckets.values())
    assert values == sorted(values)
    total = next(
        v for n, v in samples.items() if n.startswith("gen_ai_server_request_duration_seconds_sum")
    )
    assert 102.0 == total


def test_unknown_counts_are_left_out() -> None:
    """Tokens nobody counted are in no sample."""
    tokens = [name for name in parse(counted().text()) if name.startswith("workbench_tokens")]
    assert 1 == len(tokens)
    assert 'gen_ai_token_type="input"' in tokens[0]


def test_gauges_without_a_value_are_left_out() -> None:
    """A figure that is not known has no sample, not a 0."""
    gauge = Gauge("workbench_gpu_memory_bytes", "Memory.", (((("device", "a"),), None), ((), 5.0)))
    samples = parse(Counters().text([gauge]))
    assert {"workbench_gpu_memory_bytes{}": 5.0} == samples
