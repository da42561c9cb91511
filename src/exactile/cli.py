"""The command line: arguments in, exit codes out. The commands are in `exactile.commands`.

Exit codes: 0 done; 1 an image failed, or nothing could be done; 2 wrong options; 3 a network that
`inspect` refuses; 130 and 143 when interrupted or terminated.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from exactile import __version__
from exactile.allocation import prepare
from exactile.commands.assemble import assemble
from exactile.commands.demo import demo
from exactile.commands.inspect import inspect
from exactile.commands.partition import partition
from exactile.commands.reproduce import reproduce
from exactile.commands.segment import segment
from exactile.commands.statistics import measure_statistics
from exactile.errors import ExactileError, SettingsError
from exactile.failures import explain
from exactile.platforms import check_platform
from exactile.report.logs import log_to_stderr
from exactile.stopping import Stopped, stoppable
from exactile.temporary import do_without_temporary_files

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Exact tile-based segmentation of images larger than memory.",
)
logger = logging.getLogger("exactile")

BOOLEAN_OPTIONS = ("--preview", "--pyramid")
WITHOUT_VALUE = {"--resume": "true"}
"""What an option means that stands alone, followed by another one or by nothing."""


def main() -> None:
    """Run the command line, and turn what goes wrong into one message and an exit code."""
    try:
        with stoppable():
            log_to_stderr(os.environ.get("POLUS_LOG", ""))
            check_platform(sys.platform)
            prepare()
            do_without_temporary_files()
            app(args=plain_booleans(sys.argv[1:]))
    except ExactileError as error:
        logger.error("%s", error)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except Stopped as stop:
        logger.error("%s", stop.sentence())
        sys.exit(stop.exit_code)
    except Exception as error:  # noqa: BLE001 - one message, whatever it is
        logger.error("%s", explain(error))
        sys.exit(1)


def plain_booleans(arguments: list[str]) -> list[str]:
    """Return `arguments` with `--flag true` and `--flag True` as `--flag`, and false ones dropped.

    Workflow engines send booleans in any of these forms; a blank counts as absent.
    """
    result: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in WITHOUT_VALUE and (not rest or rest[0].startswith("--")):
            word = f"{word}={WITHOUT_VALUE[word]}"
        if name not in BOOLEAN_OPTIONS:
            result.append(word)
            continue
        if not equals and rest and rest[0].lower() in ("true", "false", ""):
            equals, value = "=", rest.pop(0)
        if not equals or value.lower() == "true":
            result.append(name)
        elif value.lower() not in ("false", ""):
            raise SettingsError(f"{name} {value!r} is neither true nor false")
    return result


def _version(show: bool) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Exact tile-based segmentation of images larger than memory."""


app.command()(segment)
app.command(name="statistics")(measure_statistics)
app.command()(assemble)
app.command()(partition)
app.command()(inspect)
app.command()(demo)
app.command()(reproduce)
