"""Percentiles are those of the times measured, and warm-up calls are not among them."""

import time

from d2export.verify.latency import measure


def test_warm_up_is_called_and_not_counted(monkeypatch):
    clock = iter([value for n in (1, 2, 3, 4) for value in (0.0, n / 1000)])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    calls = []
    latency = measure(lambda: calls.append(1), warmup=3, iterations=4)
    assert len(calls) == 7
    assert latency.iterations == 4
    assert (latency.min, latency.mean, latency.median) == (1, 2.5, 2.5)
    assert round(latency.p90, 6) == 3.7
    assert round(latency.p99, 6) == 3.97
