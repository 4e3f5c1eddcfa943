"""Options shared by several commands, error reporting and exit codes.

In: a command's function. Out: the same with the shared options in its signature; errors as one sentence; exit codes:
0 done, 1 a user or data error, 2 usage, 3 finished but some clips failed or are missing, 130 stopped by Ctrl-C.
Imports nothing heavy, since `--help` must be instant.
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

from pipeline.errors import ConfigError, SettingError, StarError, printable

Workers = Annotated[int, typer.Option(help="Local worker processes.", min=1)]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of an existing Dask cluster, tcp://host:port, instead of local processes.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, its size and time; do nothing.")]
MaxFailures = Annotated[int, typer.Option(help="Exit with 0 where no more clips than this fail.", min=0)]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Exit with 0 although clips lack a file.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Seed = Annotated[int, typer.Option(help="Of everything random.", min=0)]
Out = Annotated[Path, typer.Option(help="The folder to write; the same command resumes it.", show_default=False)]

# arguments of `pipeline` and `star` whose option has a name of its own
OTHER_NAMES = {"batch_clips": "batch", "batch_size": "batch", "budget_s": "budget"}
# a word by itself: no part of a path
IN_BACKTICKS = re.compile(r"(?<![^\s(])`([a-z_]+|[a-z_.]+=[^\s`]+)`(?![^\s,.;:)])")

CLIPS_FAILED = 3  # or are missing
STOPPED = 130

REMEDIES = {  # by the number of the system's error
    errno.EACCES: "ask its owner for access (see `ls -l`), or work on a copy",
    errno.EPERM: "ask its owner for access (see `ls -l`), or work on a copy",
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EROFS: "the disk is read-only: choose a folder on another one",
    errno.EMFILE: "allow more open files (`ulimit -n 4096`) and run the same command again",
}


def require_local_dry_run(scheduler: str | None) -> None:
    """Raise ConfigError for a dry run with a scheduler: a dry run measures the machine it runs on."""
    if scheduler is not None:
        raise ConfigError(
            "--dry-run", "measures this machine, not a cluster", got="--scheduler", remedy="leave out one of the two"
        )


def sharing(shared: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the parameters of `shared` to a command, which gets `shared`'s result as its argument `stage`.

    Typer builds a command line from a signature; five recipes would need five copies of the same dozen options.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own, extra = inspect.signature(command), inspect.signature(shared)

        @functools.wraps(command)
        def run(**given: Any) -> None:
            chosen = {name: given.pop(name) for name in extra.parameters}
            command(**given, stage=shared(**chosen))

        kept = [p for name, p in own.parameters.items() if name != "stage"]
        parameters = [*kept, *extra.parameters.values()]
        hints = typing.get_type_hints(command, include_extras=True) | typing.get_type_hints(shared, include_extras=True)
        parameters = [p.replace(kind=p.KEYWORD_ONLY, annotation=hints[p.name]) for p in parameters]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        del run.__wrapped__  # type: ignore[attr-defined]
        return run

    return decorate


def with_options(text: str) -> str:
    """A reason from an artifact's record, whose arguments in backticks become options."""
    return IN_BACKTICKS.sub(lambda match: f"--{OTHER_NAMES.get(match[1], match[1]).replace('_', '-')}", text)


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

    may_be_argument = isinstance(error, ConfigError) and not isinstance(error, SettingError)
    is_argument = may_be_argument and not os.path.exists(error.item)  # else it may be a file of that name
    item = options.get(error.item, error.item) if is_argument else error.item
    facts = {"got": error.got, "expected": text(error.expected), "remedy": text(error.remedy)}
    return str(StarError(item, text(error.problem), **facts))


class ErrorReportingGroup(TyperGroup):
    """Prints an error that a user or a file can cause as one sentence on stderr; usage errors stay Typer's."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; exit with one of the codes above."""
        debug = "--debug" in sys.argv
        try:
            return super().invoke(ctx)
        except StarError as error:
            if debug:
                raise
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            sentence, code = in_options(error, command or self), 1
        except KeyboardInterrupt:
            if os.environ.get("RANK", "0") != "0":  # only the first process of torchrun prints it
                raise typer.Exit(STOPPED) from None
            sentence, code = "stopped; nothing finished is lost, and the same command resumes", STOPPED
        except OSError as error:
            # a full disk or a lost mount can hit any library; the system's own message names the file
            if debug or error.errno is None or isinstance(error, BrokenPipeError):
                raise
            remedy = REMEDIES.get(error.errno, "fix that and run the same command again")
            sentence, code = f"{error.filename or 'a file'}: {error.strerror}; {remedy}; nothing finished is lost", 1
        print(printable(f"star: {sentence}"), file=sys.stderr)
        raise typer.Exit(code)
