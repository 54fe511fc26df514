"""The controller that keeps each allocation in sync; knows no transport, file format, metric or log."""
