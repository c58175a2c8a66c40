"""Help, completion, and the words for a command line that is wrong: the commands as click has them.

Only loaded when `options.parse` gave up. The commands come from the same table, and what is well-formed means the same
to both parsers.
"""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

from pyocirun.cli.options import BOOLEANS, COMMANDS, COMPLETION, GLOBAL, LISTS, NUMBERS, Call, is_number
from pyocirun.errors import NoSuchCommand, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cli.options import Option

_PROGRAM = "pyocirun"
_INTRODUCTION = (
    "A bundle is a directory with a config.json and a root filesystem. "
    '"pyocirun spec" writes a config.json to start from, "pyocirun run -b BUNDLE ID" runs it, and '
    '"pyocirun explain BUNDLE" prints what that would do. "pyocirun COMMAND --help" tells about one command, as its '
    "man page does."
)


def understand(argv: list[str]) -> Call | None:
    """What `argv` asks for; None if it was help or completion, which are printed now.

    Raises UsageError, with the usage printed to standard output before.
    """
    program = group()
    instruction = os.environ.get(COMPLETION)
    if instruction:
        shell_complete(program, {}, _PROGRAM, COMPLETION, instruction)
        return None
    try:
        return _understand(program, argv)
    except click.exceptions.Exit:
        return None
    except click.UsageError as error:
        click.echo("Incorrect Usage.\n")
        if error.ctx is not None:
            click.echo(error.ctx.get_help())
        raise UsageError(error.message) from None


def completion_script(shell: str) -> str:
    """The script that makes a shell ask this program for completions. Raises UsageError for an unknown shell."""
    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f'no completion for the shell "{shell}"', hint="there is one for bash, zsh and fish")
    return found(group(), {}, _PROGRAM, COMPLETION).source()


def group() -> _Group:
    """All commands, for click."""
    program = _Group(_PROGRAM, help=_INTRODUCTION, params=_params(GLOBAL), context_settings=_SETTINGS)
    program.table = GLOBAL
    for name, (usage, summary, _, _, stops, options) in COMMANDS.items():
        command = _Command(name, help=summary[0].upper() + summary[1:] + ".", params=_params(options))
        command.table, command.usage, command.stops, command.title = options, usage, stops, summary
        program.add_command(command)
    return program


_MAKING = ("create", "run")
"""Commands whose container id is a new one."""

_SETTINGS: dict[str, Any] = {"help_option_names": ["--help", "-h"], "max_content_width": 100}


def _understand(program: _Group, argv: list[str]) -> Call | None:
    context = program.make_context(_PROGRAM, list(argv))
    global_flags = _values(GLOBAL, context)
    if global_flags["version"]:
        return Call(global_flags, "version", {}, [])
    name, rest = (context.args[0], context.args[1:]) if context.args else ("help", [])
    if name in ("help", "h"):
        click.echo(_help_on(program, context, rest[:1]))
        return None
    command = program.commands.get(name)
    if not isinstance(command, _Command):
        raise _no_command(name)
    inner = command.make_context(name, rest, parent=context)
    _check_count(command, inner)
    return Call(global_flags, name, _values(command.table, inner), list(inner.args))


def _help_on(program: click.Group, context: click.Context, names: list[str]) -> str:
    if not names:
        return context.get_help()
    command = program.commands.get(names[0])
    if command is None:
        raise _no_command(names[0])
    return command.get_help(click.Context(command, parent=context, info_name=names[0]))


def _no_command(name: str) -> UsageError:
    return NoSuchCommand(f"No help topic for '{name}'", hint=f"{_PROGRAM} --help lists the commands")


def _check_count(command: _Command, context: click.Context) -> None:
    _, _, fewest, most, _, _ = COMMANDS[command.name or ""]
    count = len(context.args)
    if fewest == most != count:
        wanted = f"exactly {fewest}"
    elif count < fewest:
        wanted = f"a minimum of {fewest}"
    elif most != -1 and count > most:
        wanted = f"a maximum of {most}"
    else:
        return
    raise click.UsageError(f'{_PROGRAM}: "{command.name}" requires {wanted} argument(s)', context)


class _Command(click.Command):
    """A command whose flags are read by runc's grammar; click does the rest.

    click's own grammar differs: it clusters short names, and knows no -name and no --flag=false.
    """

    table: tuple[Option, ...] = ()
    title = ""
    usage = ""
    stops = False
    options_title = "OPTIONS"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        values, rest = _Reader(self.table, ctx).read(args, self.stops, isinstance(self, click.Group))
        if values.pop("help", False) and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        for param in self.get_params(ctx):
            param.handle_parse_result(ctx, values, rest)
        ctx.args = rest
        return rest

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Options and commands, as click finds them, and the ids of containers where one is wanted."""
        items = super().shell_complete(ctx, incomplete)
        if self.usage.startswith("<container-id>") and self.name not in _MAKING and not ctx.args:
            items += [CompletionItem(id) for id in _ids(ctx) if id.startswith(incomplete)]
        return items

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections of runc's help, in its order: who probes for a command may look for them."""
        with formatter.section("NAME"):
            formatter.write_text(f"{ctx.command_path} - {self.title}")
        with formatter.section("USAGE"):
            formatter.write_text(f"{ctx.command_path} [options] {self.usage}")
        self.format_middle(formatter)
        options = [param.get_help_record(ctx) for param in self.get_params(ctx)]
        with formatter.section(self.options_title):
            formatter.write_dl([option for option in options if option])

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.help = "print this and leave"
        return option

    def format_middle(self, formatter: click.HelpFormatter) -> None:
        """What stands between usage and options."""


class _Group(_Command, click.Group):
    usage = "<command> [<argument>...]"
    title = "run containers from OCI bundles"
    options_title = "GLOBAL OPTIONS"

    def format_middle(self, formatter: click.HelpFormatter) -> None:
        with formatter.section("DESCRIPTION"):
            formatter.write_text(_INTRODUCTION)
        with formatter.section("COMMANDS"):
            formatter.write_dl([(name, summary) for name, (_, summary, *_) in sorted(COMMANDS.items())])


class _Reader:
    """Reads the tokens of one command one after the other; `_Command` says why click does not."""

    def __init__(self, table: tuple[Option, ...], context: click.Context) -> None:
        self._kinds = {alias: (name, kind) for name, short, kind, *_ in table for alias in (name, short) if alias}
        self._context = context
        self._values: dict[str, Any] = {}

    def read(self, tokens: list[str], stops: bool, subcommands: bool) -> tuple[dict[str, Any], list[str]]:
        """Values by click's parameter name, and the arguments."""
        left = list(tokens)
        args: list[str] = []
        while left:
            token = left.pop(0)
            if token == "--":
                return self._values, args + left
            if stops and args:
                return self._values, [*args, token, *left]
            if token in ("", "-") or token[0] != "-":
                args.append(token)
                if subcommands:
                    return self._values, args + left
            elif token.startswith("--") or token[1].isalpha():
                self._option(token, left)
            else:
                return self._values, [*args, token, *left]
        return self._values, args

    def _option(self, token: str, left: list[str]) -> None:
        name, equals, value = token.removeprefix("-").removeprefix("-").partition("=")
        if name in ("help", "h") and name not in self._kinds:
            self._values["help"] = True
            return
        if name not in self._kinds:
            self._fail(f"flag provided but not defined: -{name}")
        full_name, kind = self._kinds[name]
        if kind == "flag":
            if value not in BOOLEANS:
                self._fail(f'invalid boolean value "{value}" for flag -{name}')
            self._values[_identifier(full_name)] = BOOLEANS[value]
            return
        if not equals:
            if not left:
                self._fail(f"flag needs an argument: -{name}")
                return
            value = left.pop(0)
        if kind in NUMBERS and not is_number(value):
            self._fail(f'invalid value "{value}" for flag -{name}: not a whole number')
        elif kind in LISTS:
            self._values.setdefault(_identifier(full_name), []).append(value)
        else:
            self._values[_identifier(full_name)] = value

    def _fail(self, message: str) -> None:
        # While completing, what is wrong now may be right when it is finished.
        if not self._context.resilient_parsing:
            raise click.UsageError(message, self._context)


def _params(table: tuple[Option, ...]) -> list[click.Parameter]:
    return [_param(option) for option in table]


def _param(option: Option) -> click.Option:
    name, short, kind, metavar, help, default = option
    names = [_identifier(name), "--" + name] + (["-" + short] if short else [])
    if kind == "flag":
        return click.Option(names, is_flag=True, default=False, help=help, hidden=not help)
    shown = default not in (None, 0)
    return click.Option(
        names,
        type=_type(name, kind, metavar),
        multiple=kind in LISTS,
        default=[] if kind in LISTS else default,
        metavar=metavar,
        help=help,
        hidden=not help,
        show_default=shown,
    )


def _type(name: str, kind: str, metavar: str) -> click.ParamType[Any]:
    """The type of a value; FILE and DIR are completed by the shell, and not looked at here."""
    if kind in NUMBERS:
        return click.INT
    if metavar in ("FILE", "DIR", "SOCKET") and name != "cwd":
        return click.Path(file_okay=metavar != "DIR")
    return click.STRING


def _values(table: tuple[Option, ...], context: click.Context) -> dict[str, Any]:
    """What click found, by the option's own name."""
    values: dict[str, Any] = {}
    for name, _, kind, _, _, default in table:
        value = context.params.get(_identifier(name))
        given = isinstance(value, (str, int, tuple, list))
        values[name] = list(value or ()) if kind in LISTS else value if given else default
    return values


def _ids(context: click.Context) -> list[str]:
    """The ids of the containers below the root directory that the command line names; none if that cannot be read."""
    from pyocirun.cli.main import default_root

    given = context.parent.params.get("root") if context.parent else None
    try:
        return sorted(name for name in os.listdir(given or default_root()) if not name.startswith("@"))
    except OSError:
        return []


def _identifier(name: str) -> str:
    return name.replace("-", "_")
