"""Print what a shell needs to complete commands, options and policy ids. For bash and zsh, add
`eval "$(ebi-spark completion bash)"` (or zsh) to the shell's start file; for fish, `ebi-spark completion fish | source`."""

import sys
from typing import Any

from rich.console import Console

from jobs.arguments import JobParser
from jobs.exit_status import guarded

SHELLS = ("bash", "zsh", "fish")


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark completion``."""
    parser = JobParser(prog="ebi-spark completion", description=__doc__)
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    arguments = parser.parse_args(argv)

    def work(_: Console, __: dict[str, Any]) -> None:
        from argcomplete.shell_integration import shellcode

        # By position: the name of the shell, which runs nothing here.
        print(shellcode(["ebi-spark"], True, arguments.shell))

    return guarded(work, as_json=False, debug=False)


if __name__ == "__main__":
    sys.exit(main())
