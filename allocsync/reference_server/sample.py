"""Makes sample clouds that look like real ones, for demos, tests and benchmarks.

The rule: the same number and seed give the same clouds.
"""

import random
from uuid import UUID

from allocsync.model.cloud import Cloud, Json, NumberLiteral

REGIONS = ("us-central1", "us-east4", "europe-west4", "asia-northeast1")
VERSIONS = ("1.6.0", "1.9", "1.10", "1.9.12", "2.0.0")
VANITY = ("mark", "ellie", "tsavo", "sam", "jordan", "kim")


def sample_clouds(number: int, seed: int) -> list[Cloud]:
    """Return this number of clouds, all of them running."""
    generator = random.Random(seed)  # noqa: S311 - sample data
    return [_cloud(generator, index) for index in range(number)]


def sample_seed(count: int, seed: int) -> dict[str, Json]:
    """Return sample clouds in the shape of a seed file, to be written with `json_codec.dumps`."""
    return {"iterable": sample_clouds(count, seed)}


def _cloud(generator: random.Random, index: int) -> Cloud:
    key = str(UUID(int=generator.getrandbits(128), version=4))
    scheme = "https://" if generator.random() < 0.5 else ""  # noqa: PLR2004 - both occur
    urls: dict[str, Json] = {
        "base": {"status": "RUNNING", "url": f"{scheme}base-{key[:8]}.a.run.app"},
        "id": {"status": "RUNNING", "url": f"{scheme}{key}.pieces.cloud"},
    }
    if index % 4:
        name = f"{generator.choice(VANITY)}-{key[:4]}"
        urls["vanity"] = {"status": "RUNNING", "url": f"{scheme}{name}.pieces.cloud"}
    return {
        "schema": {"migration": NumberLiteral("0"), "semantic": "MAJOR_0_MINOR_0_PATCH_1"},
        "id": key,
        "user": key,
        "urls": urls,
        "status": {"cloud": "RUNNING"},
        "project": f"pieces-{generator.randrange(16**6):06x}",
        "updated": {"value": "2026-01-02T03:04:05.678000Z", "readable": "Last week"},
        "version": generator.choice(VERSIONS),
        "region": generator.choice(REGIONS),
        # Fields that are not in the specification. Servers add such fields, and a sync must not lose them.
        "billing": {"plan": "pro", "quota": NumberLiteral("1e400"), "discount": NumberLiteral("0.10")},
        "flags": [True, None, NumberLiteral(str(index))],
    }
