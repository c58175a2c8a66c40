"""The man pages: Markdown that a person reads here, and roff that man(1) reads once it is installed.

    python docs/man/pages.py            rewrites the sections NAME, SYNOPSIS and OPTIONS from the table of commands
    python docs/man/pages.py DIR        writes DIR/pyocirun*.8

Everything else in the pages is written by hand. A test keeps them from falling behind the table.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GENERATED = ("NAME", "SYNOPSIS", "OPTIONS")


def main() -> None:
    if len(sys.argv) > 1:
        write_roff(Path(sys.argv[1]))
    else:
        update()


def update() -> None:
    """Rewrite the generated sections of all pages."""
    for path, text in pages().items():
        path.write_text(text)


def pages() -> dict[Path, str]:
    """The text that each page should have: a command without a page gets one."""
    options = load_options()
    wanted = {HERE / "pyocirun.8.md": page("pyocirun", program_parts(options))}
    for name, command in options.COMMANDS.items():
        wanted[HERE / f"pyocirun-{name}.8.md"] = page(f"pyocirun-{name}", command_parts(name, command))
    return wanted


def load_options() -> Any:
    """The module with the table of commands, from the sources beside this file, which may not be installed."""
    root = HERE.parents[1]
    sys.path.insert(0, str(root))
    try:
        spec = importlib.util.spec_from_file_location("_options", root / "pyocirun/cli/options.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(root))


def program_parts(options: Any) -> dict[str, str]:
    commands = [f"**{name}**\n: {summary}" for name, (_, summary, *_rest) in sorted(options.COMMANDS.items())]
    return {
        "NAME": "pyocirun - run containers from OCI bundles",
        "SYNOPSIS": "**pyocirun** [*options*] *command* [*argument*...]",
        "OPTIONS": described(options.GLOBAL),
        "COMMANDS": "\n\n".join(commands),
    }


def command_parts(name: str, command: Any) -> dict[str, str]:
    usage, summary, _fewest, _most, _stops, options = command
    arguments = re.sub(r"<([^>]+)>", r"*\1*", usage)
    parts = {
        "NAME": f"pyocirun-{name} - {summary}",
        "SYNOPSIS": f"**pyocirun {name}** [*options*] {arguments}".rstrip(),
    }
    if described(options):
        return parts | {"OPTIONS": described(options)}
    return parts | {"SYNOPSIS": f"**pyocirun {name}** {arguments}".rstrip()}


def described(options: Any) -> str:
    """A definition list of the options that are shown."""
    entries = []
    for name, short, kind, metavar, help_text, default in options:
        if not help_text:
            continue
        names = f"**--{name}**" + (f", **-{short}**" if short else "")
        value = f" *{metavar}*" if metavar else ""
        note = (
            f" (default: {default})"
            if default not in (None, 0)
            else " (may be repeated)"
            if kind in ("repeat", "ints")
            else ""
        )
        entries.append(f"{names}{value}\n: {help_text}{note}")
    return "\n\n".join(entries)


def page(name: str, parts: dict[str, str]) -> str:
    """The page as it is, with these sections in the place of its own; a new page has nothing else."""
    path = HERE / f"{name}.8.md"
    sections = read(path.read_text()) if path.exists() else {}
    order = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS"]
    order += [title for title in sections if title not in order]
    merged = {title: text for title, text in sections.items() if title not in GENERATED} | parts
    body = [f"## {title}\n\n{merged[title]}\n" for title in order if title in merged]
    return "\n".join([f"# {name}(8)\n", *body])


def read(text: str) -> dict[str, str]:
    """Sections of a page by title, without blank lines around them."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return {title: body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def write_roff(directory: Path) -> list[Path]:
    """Write all pages as man(7) has them, and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for source in sorted(HERE.glob("pyocirun*.8.md")):
        target = directory / source.stem
        target.write_text(roff(source.stem.removesuffix(".8"), source.read_text()))
        written.append(target)
    return written


def roff(name: str, text: str) -> str:
    lines = [f'.TH {name.upper()} 8 "" pyocirun "System administration"']
    for title, body in read(text).items():
        lines.append(f'.SH "{title}"')
        for block in re.split(r"\n{2,}(?![ ]{4})", body):
            lines += roff_block(block)
    return "\n".join(lines) + "\n"


def roff_block(block: str) -> Iterator[str]:
    """One block of the Markdown that the pages use: an indented example, a definition, list items, or a paragraph."""
    if block.startswith("    "):
        yield from (".PP", ".RS 4", ".nf")
        yield from (plain(line[4:]) for line in block.splitlines())
        yield from (".fi", ".RE")
    elif "\n: " in block:
        term, _, text = block.partition("\n: ")
        yield from (".TP", inline(term), inline(text))
    elif block.startswith("* "):
        for item in re.split(r"^\* ", block, flags=re.MULTILINE)[1:]:
            yield from (".IP \\(bu 2", inline(item))
    else:
        yield from (".PP", inline(block))


def inline(text: str) -> str:
    """**bold**, *underlined* and `code` as fonts, on one line."""
    text = plain(" ".join(text.split()))
    text = re.sub(r"\*\*(.+?)\*\*", r"\\fB\1\\fR", text)
    text = re.sub(r"\*(.+?)\*", r"\\fI\1\\fR", text)
    return re.sub(r"`(.+?)`", r"\\fB\1\\fR", text)


def plain(text: str) -> str:
    """Text in which roff sees no escape and no request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


if __name__ == "__main__":
    main()
