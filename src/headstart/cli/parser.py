"""The parser of the command line: argparse, and one line that says what a mistyped command or option was meant to be."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import Any, NoReturn

WRONG_USAGE = 2  # the exit code
CLOSE = 0.7  # of difflib's ratio: `--bugdet` is close to `--budget`, and `--frobnicate` to nothing
OPTION = re.compile(r"--?[A-Za-z]\S*")  # and no negative number


class Parser(argparse.ArgumentParser):
    """Parses a command's options; what is mistyped ends with the nearest name instead of the whole usage."""

    words: tuple[str, ...] = ()  # those that were typed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is left over: a command below this one has then parsed all that is its own."""
        self.words = tuple(args or ())
        namespace, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return namespace, rest

    def error(self, message: str) -> NoReturn:
        """End with exit code 2: with the nearest option where one was mistyped, else with the usage."""
        names = [name for action in self._actions for name in action.option_strings]
        for word in self.words:
            if word == "--":
                break
            name = word.split("=")[0]
            if OPTION.fullmatch(name) and not any(known.startswith(name) or known == name[:2] for known in names):
                advice = did_you_mean(name, names) or f"`{self.prog} --help` lists them"
                self._end(f"{self.prog} has no option {name}; {advice}")
        super().error(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is none of an argument's choices; of commands, argparse calls this as well."""
        if action.choices is None or value in action.choices:
            return
        choices = list(action.choices)
        advice = did_you_mean(value, choices) or f"expected {', '.join(choices)}"
        if isinstance(action, argparse._SubParsersAction):
            command = " ".join([*self.prog.split()[1:], value])  # of `headstart cache`: cache and what was typed
            self._end(f"there is no command {command!r}; {advice}")
        name = "/".join(action.option_strings) or action.metavar or action.dest
        self._end(f"there is no {name} {value!r}; {advice}")

    def _end(self, message: str) -> NoReturn:
        from headstart.safety.terminal_text import harmless_line

        self.exit(WRONG_USAGE, f"headstart: {harmless_line(message)}\n")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Ask whether the most similar of some names was meant; empty where none is similar."""
    from difflib import get_close_matches

    nearest = get_close_matches(name, list(names), n=1, cutoff=CLOSE)
    return f"did you mean {nearest[0]}?" if nearest else ""
