"""bench/gpu.py takes every path on a toy model, and never passes off a machine without a GPU as measured."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="the learner's side: pip install 'mass-gov[ml]'")


def test_without_a_gpu_nothing_is_measured_and_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench import gpu

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    assert gpu.main() == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "nothing was measured" in printed.err


def test_a_rehearsal_takes_every_path_and_both_ways_agree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench import gpu

    monkeypatch.setattr(
        "sys.argv", ["gpu.py", *["--rehearse", "--steps", "1,3", "--tasks", "1,2", "--repeats", "1", "--json"]]
    )
    assert gpu.main() == 3
    report = json.loads(capsys.readouterr().out)
    assert report["measured"] is False
    assert [row["k"] for row in report["meta_gradient"]] == [1, 3]
    for row in report["meta_gradient"]:
        assert row["attribution apart"] < 0.05  # bfloat16
        assert all(row[way]["seconds"] > 0 for way in ("sweep", "sweep, 2 at once", "naive"))
    assert [row["tasks"] for row in report["adaptations"]] == [1, 2]
