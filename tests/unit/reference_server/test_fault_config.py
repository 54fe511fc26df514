"""The fault configuration and the draws: the same seed draws the same, and a wrong setting is named."""

import json
from collections import Counter
from typing import Any

import pytest

from allocsync.reference_server.fault_config import FaultConfigError, parse_phases
from allocsync.reference_server.faults import FAULTS, FaultDraw, FaultSampler


def make_sampler(settings: object) -> FaultSampler:
    return FaultSampler(parse_phases(settings)[0], Counter())


def test_reads_do_not_change_the_draws_of_updates() -> None:
    settings = {"seed": 3, "update": {"timeout_before": 0.5}, "snapshot": {"reset": 0.5}}
    one, other = make_sampler(settings), make_sampler(settings)
    quiet = [one.draw("update").fault_name for _ in range(100)]
    busy = [(other.draw("snapshot"), other.draw("update"))[1].fault_name for _ in range(100)]
    assert quiet == busy
    assert quiet != [make_sampler({**settings, "seed": 4}).draw("update").fault_name] * 100


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "an object"),
        ({"upadte": {}}, "unknown key 'upadte'"),
        ({"update": {"timeout_before": 1.5}}, "from 0 to 1"),
        ({"update": {"timeout_before": True}}, "a number"),
        ({"update": {"timeout_before": 0.6, "reset_after": 0.6}}, "more than 1"),
        ({"snapshot": {"latency_seconds": [1]}}, "[least, most]"),
        ({"snapshot": {"latency_seconds": [2, 1]}}, "the least is more than the most"),
        ({"writer": {"per_second": 0}}, "more than 0"),
        ({"writer": {"per_second": 1, "field": "regoin"}}, "one of"),
        ({"writer": {"per_second": 1, "value": 1}}, "not a string"),
        ({"writer": {"per_second": 1, "field": "status.cloud", "value": "RUNING"}}, "one of PENDING"),
        ({"writer": {"per_second": 1, "feld": "region"}}, "allowed are per_second, field, value"),
        ({"update": {"late_seconds": float("nan")}}, "from 0 to 86400"),
        ({"seed": "a"}, "whole number"),
        ({"all": {"timeout_before": 1, "nonsense": 1}}, "all: unknown key 'nonsense'"),
        ({"update": {"timeout": 1}}, "update: unknown key 'timeout'"),
        ({"update": {"ignores": ["name"]}}, "update.ignores: "),
        ({"update": {"retry_after": "a\r\nb"}}, "text of a header"),
        ({"update": {"retry_after": 1, "retry_after_date_seconds": 1}}, "not both"),
        ({"list": {"omits": 2}}, "list.omits"),
        ({"ticks_per_second": -1}, "ticks_per_second"),
        ({"writer": {"per_second": 1, "back": True, "value": "a"}}, "without a value beside it"),
        ({"timeline": []}, "not a list of phases"),
        ({"timeline": [{}, {"seconds": 1}]}, "timeline[0].seconds: required"),
        ({"timeline": [{"seconds": 1, "update": {"500": 2}}]}, "timeline[0].update.500"),
        ({"timeline": [{}], "update": {"500": 1}}, "timeline: update must be inside a phase"),
    ],
)
def test_a_wrong_fault_setting_is_named(wrong: Any, message: str) -> None:  # noqa: ANN401 - JSON
    with pytest.raises(FaultConfigError) as caught:
        parse_phases(wrong)
    assert message in str(caught.value)


def test_the_same_seed_gives_the_same_draws() -> None:
    settings = {"seed": 3, "update": {"timeout_before": 0.3, "timeout_after": 0.3, "latency_seconds": [0, 1]}}
    one, other = make_sampler(settings), make_sampler(json.loads(json.dumps(settings)))
    draws = [one.draw("update") for _ in range(200)]
    assert draws == [other.draw("update") for _ in range(200)]
    kinds = [draw.fault_name for draw in draws]
    assert all(20 < kinds.count(kind) < 100 for kind in ("timeout_before", "timeout_after", None))


def test_all_applies_to_each_operation_and_an_operation_overrides_it() -> None:
    (phase,) = parse_phases({"all": {"500": 0.5, "timeout_before": 0.25}, "list": {"500": 0}})
    shares = {
        name: {fault.name: share for fault, share in settings.shares.items()}
        for name, settings in phase.settings.items()
    }
    assert shares == {
        "update": {"500": 0.5, "timeout_before": 0.25},
        "snapshot": {"500": 0.5},
        "list": {"500": 0.0},
    }


def test_a_fault_that_may_apply_an_update_applies_the_configured_share() -> None:
    for applied, low, high in ((0.0, 0, 0), (0.5, 60, 140), (1.0, 200, 200)):
        sampler = make_sampler({"update": {"500": 1, "applied": applied}})
        draws: list[FaultDraw] = [sampler.draw("update") for _ in range(200)]
        assert low <= sum(draw.effect.name == "BEFORE_ANSWER" for draw in draws) <= high


def test_the_faults_of_an_operation_have_different_names() -> None:
    names = [(operation, fault.name) for fault in FAULTS for operation in fault.operations]
    assert len(names) == len(set(names))
