"""`holdfast events follow|publish`."""

import json
from contextlib import aclosing
from dataclasses import asdict

import click

from holdfast.cli.run import Options, verb
from holdfast.events.follow import Event


@click.group()
def events() -> None:
    """Live events of the signed-in user."""


@events.command()
@click.option("--from", "resume_token", default="", metavar="TOKEN", help="Behind this token, or `earliest`.")
@click.option("--count", default=0, metavar="N", help="End after so many.")
@verb
async def follow(options: Options, resume_token: str, count: int) -> None:
    """Print events as they happen, reconnecting by itself; a gap is printed as a reset."""
    seen = 0
    async with options.client() as client, aclosing(client.events.follow(resume_token)) as told:
        async for each in told:
            if options.as_json:
                options.show({"kind": "event" if isinstance(each, Event) else "reset", **asdict(each)})
            elif isinstance(each, Event):
                click.echo(f"{each.time:%H:%M:%S}  {each.type}  {json.dumps(each.data, ensure_ascii=False)}")
            else:
                click.echo(f"reset: {each.cause}; kept are {each.oldest_offset} to {each.newest_offset}")
            seen += 1
            if seen == count:
                return


@events.command()
@click.argument("type")
@click.argument("data", default="{}")
@verb
async def publish(options: Options, type: str, data: str) -> None:
    """Append an event of TYPE with JSON DATA."""
    async with options.client() as client:
        event = await client.events.publish(type, json.loads(data))
    options.show({"offset": event.offset, "type": event.type}, f"{event.type} at {event.offset}")
