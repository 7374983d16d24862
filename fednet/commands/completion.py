"""Shell completion of `python cli.py ...`: click's own, in scripts that do not need a program of that name."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any, ClassVar

from click.shell_completion import BashComplete, ZshComplete, add_completion_class

_CLI = Path(__file__).resolve().parents[2] / "cli.py"

# Only where the script that is being called is this very file: another project's cli.py must not run by a tab.
_BASH = """\
_fednet_completion() {
    local IFS=$'\\n' response completion type value
    [[ ${COMP_WORDS[1]} -ef %(cli)s && $COMP_CWORD -gt 1 ]] || return 0
    response=$(COMP_WORDS="${COMP_WORDS[*]:1}" COMP_CWORD=$((COMP_CWORD - 1)) \\
        %(complete_var)s=bash_complete %(python)s %(cli)s)
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o bashdefault -o default -o nosort -F _fednet_completion python python3
"""
_ZSH = """\
_fednet_completion() {
    if [[ ! ${words[2]} -ef %(cli)s ]] || (( CURRENT < 3 )); then
        (( $+functions[_python] )) && _python "$@" || _default
        return
    fi
    local -a response plain described
    local type key descr
    response=("${(@f)$(COMP_WORDS="${words[2,-1]}" COMP_CWORD=$((CURRENT - 2)) \\
        %(complete_var)s=zsh_complete %(python)s %(cli)s)}")
    for type key descr in ${response}; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            plain) [[ $descr == _ ]] && plain+=("$key") || described+=("$key:$descr") ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
}
compdef _fednet_completion python python3
"""


class PythonBash(BashComplete):
    """bash: completes `python cli.py`, and leaves python's other scripts to the completion of files."""

    source_template: ClassVar[str] = _BASH

    def source_vars(self) -> Any:
        """Return what the script is filled with."""
        return _with_paths(super().source_vars())


class PythonZsh(ZshComplete):
    """zsh: likewise, and leaves other scripts to zsh's own completion of python."""

    source_template: ClassVar[str] = _ZSH

    def source_vars(self) -> Any:
        """Return what the script is filled with."""
        return _with_paths(super().source_vars())


def install() -> None:
    """Make click use these scripts."""
    add_completion_class(PythonBash)
    add_completion_class(PythonZsh)


def _with_paths(given: Any) -> dict[str, str]:
    return {**given, "python": shlex.quote(sys.executable), "cli": shlex.quote(str(_CLI))}
