"""`allocsync schema`: prints the JSON Schemas of the files, for editors and CI."""

import json

import click


@click.command()
@click.argument("what", type=click.Choice(["desired", "settings"]))
def schema(what: str) -> None:
    """Print the JSON Schema of the desired state or the settings.

    It is a schema of draft-07. A file names its schema in its first line: # yaml-language-server:
    $schema=allocations.schema.json
    """
    if what == "desired":
        from allocsync.desired.json_schema import desired_schema

        click.echo(json.dumps(desired_schema(), indent=2))
    else:
        from allocsync.settings.json_schema import settings_schema

        click.echo(json.dumps(settings_schema(), indent=2))
