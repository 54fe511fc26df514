"""Which allocations a command is about: all that are declared, or those that the command line names.

The rule: a name is looked up as the daemon does it (`model.ids`), and a command line with a wrong name
reads and sends nothing.
"""

from collections.abc import Sequence
from dataclasses import replace

from allocsync.cli.output import with_suggestions
from allocsync.errors import UsageError
from allocsync.model.desired_state import Generation
from allocsync.model.ids import NotFound, find


def select(generation: Generation, names: Sequence[str]) -> Generation:
    """Return the revision reduced to the allocations with these names, or all of it if `names` is empty.

    Raises:
        UsageError: a name matches no declared allocation, or more than one; says so of every such name.
    """
    if not names:
        return generation
    ids = generation.allocations.keys() | generation.quarantined.keys()
    results = [find(name, ids) for name in names]
    errors = [
        with_suggestions(result.why, result.suggestions) for result in results if isinstance(result, NotFound)
    ]
    if errors:
        raise UsageError("\n".join(errors))
    chosen = set(results)
    return replace(
        generation,
        allocations={key: value for key, value in generation.allocations.items() if key in chosen},
        quarantined={key: value for key, value in generation.quarantined.items() if key in chosen},
    )
