"""Which allocations a command is about: all that are declared, or those that the command line names.

The rule: a name is looked up as the daemon does it (`model.ids`), and a command line with a wrong name
reads and sends nothing.
"""

from collections.abc import Sequence
from dataclasses import replace

from allocsync.cli.output import with_suggestions
from allocsync.errors import UsageError
from allocsync.model.desired_state import Revision
from allocsync.model.ids import NotFound, find


def select(revision: Revision, names: Sequence[str]) -> Revision:
    """Return the revision reduced to the allocations with these names, or all of it if `names` is empty.

    A name is a whole id, or the beginning of one with at least 8 characters (`model.ids.PREFIX_MIN`).

    Raises:
        UsageError: a name matches no declared allocation or more than one, or it is a shorter beginning, even
            if only one id begins with it. The error lists every such name.
    """
    if not names:
        return revision
    ids = revision.allocations.keys() | revision.quarantined.keys()
    results = [find(name, ids) for name in names]
    errors = [
        with_suggestions(result.why, result.suggestions) for result in results if isinstance(result, NotFound)
    ]
    if errors:
        raise UsageError("\n".join(errors))
    chosen = set(results)
    return replace(
        revision,
        allocations={key: value for key, value in revision.allocations.items() if key in chosen},
        quarantined={key: value for key, value in revision.quarantined.items() if key in chosen},
    )
