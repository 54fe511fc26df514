"""Strategies for property tests: live clouds of any shape, and desired allocations."""

from typing import Any

from hypothesis import strategies as st

from allocsync.model.cloud import DECLARABLE, STATUSES, NumberLiteral
from allocsync.model.desired_state import Desired, Mode
from allocsync.model.ids import AllocationId

text = st.text(st.characters(codec="utf-8"), max_size=6)
numbers = st.sampled_from(["0", "-0", "1.10", "1e400", "12345678901234567890"]).map(NumberLiteral)
values: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), text, numbers),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=6,
)
statuses = st.sampled_from(STATUSES)
# Few values, so that live and desired values are often equal.
words = st.sampled_from(["a", "b", "1.10", "RUNNING", "mark.pieces.cloud"])
odd = st.one_of(words, st.none(), numbers, values)


def _object(**fields: Any) -> Any:  # noqa: ANN401 - a strategy of any shape
    known = {name: fields[name] for name in fields}
    return st.builds(
        lambda base, extra: {**extra, **base},
        st.fixed_dictionaries({}, optional=known),
        st.dictionaries(text, values, max_size=2),
    )


urls = _object(status=st.one_of(statuses, odd), url=odd)
clouds: Any = _object(
    user=odd,
    project=odd,
    region=odd,
    version=odd,
    status=st.one_of(_object(cloud=st.one_of(statuses, odd)), odd),
    urls=st.one_of(_object(base=st.one_of(urls, odd), id=urls, vanity=st.one_of(urls, st.none())), odd),
    updated=values,
).map(lambda cloud: {"id": "7b0c4c5e", **cloud})


def whole_clouds() -> Any:  # noqa: ANN401 - likewise
    """Clouds with every field that the API's schema requires, and others."""
    url = st.fixed_dictionaries({"status": statuses, "url": words}, optional={"extra": values})
    return st.fixed_dictionaries(
        {
            "id": st.just("7b0c4c5e"),
            "user": words,
            "project": words,
            "status": st.fixed_dictionaries({"cloud": statuses}),
            "urls": st.fixed_dictionaries({"base": url, "id": url}, optional={"vanity": url}),
        },
        optional={"region": words, "version": words, "updated": values, "unknown": values},
    )


ENFORCE = st.just(Mode.ENFORCE)


def desired(allocation_id: str = "7b0c4c5e", modes: Any = ENFORCE) -> Any:  # noqa: ANN401 - likewise
    """Desired allocations with some of the declarable fields."""
    fields = st.dictionaries(st.sampled_from(DECLARABLE), words, min_size=1)
    return st.builds(
        lambda chosen, mode: Desired(
            AllocationId(allocation_id),
            tuple((name, chosen[name]) for name in DECLARABLE if name in chosen),
            mode,
            "desired.yaml:3",
        ),
        fields,
        modes,
    )
