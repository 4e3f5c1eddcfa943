"""Options that several commands share, and the one way every command ends.

In: a command's function. Out: the same with the shared options in its signature, errors told in one sentence, and exit
codes: 0 done, 1 a user or data error, 2 usage, 3 finished but some clips failed, 130 stopped by Ctrl-C. Imports nothing
heavy: `--help` must be instant.
"""

from __future__ import annotations

import errno
import functools
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipeline.errors import ConfigError, StarError

Workers = Annotated[int, typer.Option(help="Local worker processes.", min=1)]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of an existing Dask cluster, tcp://host:port, instead of local processes.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, how large and how long; do nothing.")]
MaxFailures = Annotated[int, typer.Option(help="So many failed clips still end in exit code 0.", min=0)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Seed = Annotated[int, typer.Option(help="Keys everything random.", min=0)]
Out = Annotated[Path, typer.Option(help="The folder to write; the same command goes on with it.", show_default=False)]

# arguments of `pipeline` and `star` whose option has a name of its own
OTHER_NAMES = {"batch_clips": "batch", "batch_size": "batch", "budget_s": "budget"}
IN_BACKTICKS = re.compile(
    r"(?<![^\s(])`([a-z_]+|[a-z_.]+=[^\s`]+)`(?![^\s,.;:)])"
)  # a word by itself: no part of a path

CLIPS_FAILED = 3
STOPPED = 130

REMEDIES = {  # where the system refuses, by its number for that
    errno.EACCES: "ask its owner for access (`ls -l` tells who that is), or work on a copy",
    errno.EPERM: "ask its owner for access (`ls -l` tells who that is), or work on a copy",
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EROFS: "it lies on a disk that can only be read: choose a folder on another",
    errno.EMFILE: "allow more open files (`ulimit -n 4096`) and run the same command again",
}


def measured_here(scheduler: str | None) -> None:
    """Raises ConfigError where a dry run is asked about a cluster: its seconds are measured where it runs."""
    if scheduler is not None:
        raise ConfigError(
            "--dry-run", "measures this machine, not a cluster", got="--scheduler", remedy="leave out one of the two"
        )


def sharing(shared: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the parameters of `shared` to a command, which gets `shared`'s result as its argument `stage`.

    Typer builds a command line from a signature; five recipes with the same dozen options would be five copies of them.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own, extra = inspect.signature(command), inspect.signature(shared)

        @functools.wraps(command)
        def run(**given: Any) -> None:
            chosen = {name: given.pop(name) for name in extra.parameters}
            command(**given, stage=shared(**chosen))

        kept = [p for name, p in own.parameters.items() if name != "stage"]
        parameters = [*kept, *extra.parameters.values()]
        hints = {
            **typing.get_type_hints(command, include_extras=True),
            **typing.get_type_hints(shared, include_extras=True),
        }
        parameters = [p.replace(kind=p.KEYWORD_ONLY, annotation=hints[p.name]) for p in parameters]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        del run.__wrapped__  # type: ignore[attr-defined]
        return run

    return decorate


def in_options(error: StarError, command: Any) -> str:
    """The sentence of an error of `pipeline` or `star`, with the options of a command for the arguments that it names.

    An item that is an argument becomes its option; so does an argument in backticks in the text. `section.key=value`
    becomes --set section.key=value. What was got is the user's own and stays as it is.
    """
    options = {p.name: p.opts[0] for p in command.params if p.param_type_name == "option"}
    options |= {argument: options[name] for argument, name in OTHER_NAMES.items() if name in options}

    def option(match: re.Match[str]) -> str:
        if "=" in match[1]:
            return f"{options['settings']} {match[1]}" if "settings" in options else match[0]
        return options.get(match[1], match[0])

    def text(part: Any) -> Any:
        return IN_BACKTICKS.sub(option, part) if isinstance(part, str) else part

    is_argument = isinstance(error, ConfigError) and not os.path.exists(error.item)  # else a file of that name
    item = options.get(error.item, error.item) if is_argument else error.item
    facts = {"got": error.got, "expected": text(error.expected), "remedy": text(error.remedy)}
    return str(StarError(item, text(error.problem), **facts))


class ErrorReportingGroup(TyperGroup):
    """Turns errors that a user or a file can cause into one sentence on stderr; usage errors stay Typer's."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; ends in one of the exit codes above."""
        debug = "--debug" in sys.argv
        try:
            return super().invoke(ctx)
        except StarError as error:
            if debug:
                raise
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            sentence, code = in_options(error, command or self), 1
        except KeyboardInterrupt:
            if os.environ.get("RANK", "0") != "0":  # of those that torchrun started, one tells it
                raise typer.Exit(STOPPED) from None
            sentence, code = "stopped; nothing finished is lost, and the same command goes on", STOPPED
        except OSError as error:
            # a full disk or a lost mount can strike in any library below us; the system's own words name the file
            if debug or error.errno is None or isinstance(error, BrokenPipeError):
                raise
            remedy = REMEDIES.get(error.errno, "mend that and run the same command again")
            sentence, code = f"{error.filename or 'a file'}: {error.strerror}; {remedy}; nothing finished is lost", 1
        print(f"star: {sentence}", file=sys.stderr)
        raise typer.Exit(code)
