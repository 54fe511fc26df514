"""Knobs and dice by themselves: the same seed throws the same, and a wrong knob is named."""

import json
from typing import Any

import pytest

from allocsync.api.server.faults import Faults, FaultsError


def test_reads_do_not_move_the_dice_of_updates() -> None:
    knobs = {"seed": 3, "update": {"timeout_before": 0.5}, "snapshot": {"reset": 0.5}}
    one, other = Faults(knobs), Faults(knobs)
    quiet = [one.throw("update").kind for _ in range(100)]
    busy = [(other.throw("snapshot"), other.throw("update"))[1].kind for _ in range(100)]
    assert quiet == busy
    assert quiet != [Faults({**knobs, "seed": 4}).throw("update").kind] * 100


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], "an object"),
        ({"upadte": {}}, "unknown key 'upadte'"),
        ({"update": {"timeout_before": 1.5}}, "from 0 to 1"),
        ({"update": {"timeout_before": True}}, "a number"),
        ({"update": {"timeout_before": 0.6, "reset_after": 0.6}}, "more than 1"),
        ({"snapshot": {"latency_seconds": [1]}}, "[least, most]"),
        ({"snapshot": {"latency_seconds": [2, 1]}}, "above the most"),
        ({"writer": {"per_second": 0}}, "more than 0"),
        ({"writer": {"per_second": 1, "field": "regoin"}}, "one of"),
        ({"writer": {"per_second": 1, "value": 1}}, "a text"),
        ({"writer": {"per_second": 1, "field": "status.cloud", "value": "RUNING"}}, "one of PENDING"),
        ({"writer": {"per_second": 1, "feld": "region"}}, "allowed are per_second, field, value"),
        ({"update": {"late_seconds": float("nan")}}, "from 0 to 86400"),
        ({"seed": "a"}, "whole number"),
    ],
)
def test_a_wrong_knob_is_named_and_changes_nothing(wrong: Any, said: str) -> None:  # noqa: ANN401 - JSON
    faults = Faults({"update": {"timeout_before": 1}})
    with pytest.raises(FaultsError) as caught:
        faults.replace(wrong)
    assert said in str(caught.value)
    assert faults.throw("update").kind == "timeout_before"


def test_the_same_seed_throws_the_same_dice() -> None:
    knobs = {"seed": 3, "update": {"timeout_before": 0.3, "timeout_after": 0.3, "latency_seconds": [0, 1]}}
    one, other = Faults(knobs), Faults(json.loads(json.dumps(knobs)))
    throws = [one.throw("update") for _ in range(200)]
    assert throws == [other.throw("update") for _ in range(200)]
    kinds = [throw.kind for throw in throws]
    assert all(20 < kinds.count(kind) < 100 for kind in ("timeout_before", "timeout_after", None))
