"""Prints rules.yml as a PrometheusRule, for the Prometheus operator.

    python deploy/prometheus/operator_rules.py > deploy/prometheus/prometheusrule.yaml

The rule: rules.yml is the only source; the groups are the same text, indented.
"""

import sys
import textwrap
from pathlib import Path

HEAD = """\
# Generated from rules.yml by operator_rules.py.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: allocsync
  labels:
    app.kubernetes.io/name: allocsync
spec:
"""


def main() -> None:
    """Write the resource to standard output."""
    rules = Path(__file__).with_name("rules.yml").read_text(encoding="utf-8")
    sys.stdout.write(HEAD + textwrap.indent(rules[rules.index("groups:") :], "  "))


if __name__ == "__main__":
    main()
