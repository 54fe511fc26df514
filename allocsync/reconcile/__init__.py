"""The loop that brings each allocation in line; knows no transport, file format, metric or log (checked)."""
