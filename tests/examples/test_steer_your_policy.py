"""The README's example: trained from nothing, it goes both ways unsteered, and the wanted way under a score of two lines."""

import json

from scripts import script


def test_a_policy_with_two_modes_is_steered_to_either(tmp_path):
    script("examples/steer_your_policy.py").main(["--output", str(tmp_path), "--episodes", "100", "--device", "cpu"])
    counts = {arm: json.loads((tmp_path / f"{arm}.json").read_text())["behaviors"] for arm in ("unsteered", "steered_left", "steered_right")}
    assert min(counts["unsteered"][way]["rate"] for way in ("left", "right")) >= 0.2
    assert counts["steered_left"]["left"]["rate"] >= 0.95
    assert counts["steered_right"]["right"]["rate"] >= 0.95
    assert (tmp_path / "steering.png").stat().st_size > 10_000
