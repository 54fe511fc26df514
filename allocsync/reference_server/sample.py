"""Made-up clouds that look like real ones: for demos, tests and benchmarks. The same seed makes the same."""

import random
from uuid import UUID

from allocsync.model.cloud import Cloud, Json, NumberLiteral

REGIONS = ("us-central1", "us-east4", "europe-west4", "asia-northeast1")
VERSIONS = ("1.6.0", "1.9", "1.10", "1.9.12", "2.0.0")
VANITY = ("mark", "ellie", "tsavo", "sam", "jordan", "kim")


def sample_clouds(number: int, seed: int) -> list[Cloud]:
    """So many clouds, all running."""
    chance = random.Random(seed)  # noqa: S311 - sample data
    return [_cloud(chance, index) for index in range(number)]


def sample_seed(count: int, seed: int) -> dict[str, Json]:
    """So many clouds in the shape of a seed file: write it with `wire.dumps`."""
    return {"iterable": sample_clouds(count, seed)}


def _cloud(chance: random.Random, index: int) -> Cloud:
    key = str(UUID(int=chance.getrandbits(128), version=4))
    scheme = "https://" if chance.random() < 0.5 else ""  # noqa: PLR2004 - both occur
    urls: dict[str, Json] = {
        "base": {"status": "RUNNING", "url": f"{scheme}base-{key[:8]}.a.run.app"},
        "id": {"status": "RUNNING", "url": f"{scheme}{key}.pieces.cloud"},
    }
    if index % 4:
        name = f"{chance.choice(VANITY)}-{key[:4]}"
        urls["vanity"] = {"status": "RUNNING", "url": f"{scheme}{name}.pieces.cloud"}
    return {
        "schema": {"migration": NumberLiteral("0"), "semantic": "MAJOR_0_MINOR_0_PATCH_1"},
        "id": key,
        "user": key,
        "urls": urls,
        "status": {"cloud": "RUNNING"},
        "project": f"pieces-{chance.randrange(16**6):06x}",
        "updated": {"value": "2026-01-02T03:04:05.678000Z", "readable": "Last week"},
        "version": chance.choice(VERSIONS),
        "region": chance.choice(REGIONS),
        # Fields that no specification knows: servers add them, and a sync must not lose them.
        "billing": {"plan": "pro", "quota": NumberLiteral("1e400"), "discount": NumberLiteral("0.10")},
        "flags": [True, None, NumberLiteral(str(index))],
    }
