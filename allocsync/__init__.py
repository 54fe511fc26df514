"""allocsync makes the allocations of an Allocation API match what YAML files declare.

The packages, from the lowest layer to the highest; each imports only from those above it in this list:

- `errors`, `atomic_file`: what users can meet as an error, and how a file is replaced in one step.
- `model`: the values that all packages share: ids, live clouds, desired state, API answers, conditions.
- `planning`: desired state compared with live state: differences, plans, the change limit, write windows.
- `settings`, `desired`, `journal`, `api`: settings from five places; YAML files into one revision of the
  desired state; the durable record of every update in SQLite; the HTTP client of the Allocation API.
- `reconcile`: the controller: when each allocation is read, and which updates may be sent.
- `telemetry` and `web`: logs and metrics; the HTTP server with health, metrics, status and control.
- `runtime`: the daemon process, and the wiring of all packages above.
- `cli`: the commands.

`reference_server` stands beside them: a server of the same API that can inject faults, for tests and demos.

`model` and `planning` are pure: no I/O, no clock, no randomness.
"""

__version__ = "0.2.0"
