"""stub until merged"""

from dataclasses import dataclass
from allocsync.planning.model import *
from allocsync.planning.model import Cloud, Desired, Json


@dataclass(frozen=True, slots=True)
class Change:
    field: str
    live: Json
    desired: str


def leaf(cloud: Cloud, field: str) -> Json:
    v: Json = cloud
    for k in field.split("."):
        if not isinstance(v, dict):
            return None
        v = v.get(k)
    return v


def compare(desired: Desired, cloud: Cloud) -> tuple[Change, ...]:
    return tuple(Change(f, leaf(cloud, f), w) for f, w in desired.leaves if leaf(cloud, f) != w)


def merge(desired: Desired, cloud: Cloud) -> Cloud:
    import copy

    out = copy.deepcopy(dict(cloud))
    for f, w in desired.leaves:
        t = out
        *ks, last = f.split(".")
        for k in ks:
            t = t.setdefault(k, {})
        t[last] = w
    return out


def body_problems(body: Cloud) -> tuple[str, ...]:
    return ()


def pending(cloud: Cloud) -> tuple[str, ...]:
    return ()
