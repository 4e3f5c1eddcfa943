"""The `star` command: registers the commands and nothing else."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any

import typer

from cli import check
from cli.commands import ablate, demo, evaluate, extract, inspect, prepare, report, retry, train, verify
from cli.options import ErrorReportingGroup
from pipeline.errors import StarError, printable

app = typer.Typer(
    cls=ErrorReportingGroup,
    name="star",
    help="Video + skeleton data sets into token stores, and the STAR-Transformer trained from them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(prepare.app, name="prepare", help="Stage 1: videos and skeletons to prepared clips.")
app.command("extract-tokens")(extract.extract_tokens)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("ablate")(ablate.ablate)
app.command("inspect")(inspect.inspect)
app.command("verify")(verify.verify)
app.command("retry")(retry.retry)
app.command("demo")(demo.demo)


def main() -> None:
    """The entry point of the distribution; exits with a code of `cli.options`."""
    _make_streams_safe()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # from a batch system: like Ctrl-C
    try:
        check.require_own_packages()
    except StarError as error:
        print(f"star: {error}", file=sys.stderr)
        sys.exit(1)
    try:
        app()
    except BaseException as error:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            _leave_the_others(error)
        raise


def _leave_the_others(error: BaseException) -> None:
    """Exit at once where one of several processes has failed. On GPUs the end of the process group would wait for the
    others, and they for this one; torchrun ends them once this one has exited.
    """
    code = error.code if isinstance(error, SystemExit) else 1
    if not code:
        return
    if not isinstance(error, SystemExit):
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 1)


def _make_streams_safe() -> None:
    """A closed or non-UTF-8 stdout or stderr must not crash a command."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (open as long as the process)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # stderr does so by default
        sys.stdout = PrintableText(sys.stdout)  # type: ignore[assignment]


class PrintableText:
    """A text stream that shows what would steer a terminal as an escape: strangers name files, clips and classes."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write("\n".join(map(printable, text.split("\n"))))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


if __name__ == "__main__":
    main()
