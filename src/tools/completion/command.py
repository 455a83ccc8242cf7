"""``oamarl completion bash|zsh|fish``: a script with which a shell completes command lines of ``oamarl``.

The scripts ask ``oamarl completion --line LINE``, where LINE is what was typed up to the cursor, for the whole words
that the last one may become. Nothing heavy is imported, since each press of the key waits for it.
"""

from __future__ import annotations

from ...utils.errors import UserError, nearest, one_of
from .words import candidates

USAGE = """\
usage: oamarl completion bash|zsh|fish

Prints a script with which the shell completes commands, flags, algorithms, environments, keys after `with`, runs and
files when Tab is pressed. Once for a terminal, or in the shell's start-up file:

  bash  source <(oamarl completion bash)         (~/.bashrc)
  zsh   source <(oamarl completion zsh)          (~/.zshrc, after compinit)
  fish  oamarl completion fish | source          (~/.config/fish/config.fish)"""

_BASH = r"""
_oamarl() {
    local IFS=$'\n' line="${COMP_LINE:0:COMP_POINT}" cur part
    cur="${line##*[[:space:]]}"
    COMPREPLY=($("${1/#\~/$HOME}" completion --line "$line" 2>/dev/null))
    # readline replaces what follows the last of these characters alone
    part="$cur"
    [[ "$COMP_WORDBREAKS" == *=* ]] && part="${part##*=}"
    [[ "$COMP_WORDBREAKS" == *:* ]] && part="${part##*:}"
    COMPREPLY=("${COMPREPLY[@]#"${cur%"$part"}"}")
    if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[=/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    return 0
}
complete -F _oamarl oamarl
"""

_ZSH = r"""
#compdef oamarl
_oamarl() {
    local line="${(j: :)words[1,CURRENT]}"
    local -a found
    found=("${(@f)$(${~words[1]} completion --line "$line" 2>/dev/null)}")
    found=(${found:#})
    (( ${#found} )) || return 1
    compadd -S '' -- ${(M)found:#*[=/]}
    compadd -- ${found:#*[=/]}
}
if [[ "${funcstack[1]}" == "_oamarl" ]]; then
    _oamarl "$@"
else
    compdef _oamarl oamarl
fi
"""

_FISH = r"""
function __oamarl_words
    set -l typed (commandline -opc)
    $typed[1] completion --line (commandline -cp | string collect) 2>/dev/null
end
complete -c oamarl -f -a '(__oamarl_words)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def main(argv: list[str]) -> int:
    """Print a shell's script, or with ``--line`` what the last word of a line may become; return the exit status.

    Raises:
        UserError: no shell, or another one.
    """
    if argv[:1] == ["--line"]:
        found = candidates(argv[1] if len(argv) > 1 else "")
        print("".join(f"{word}\n" for word in found), end="")
        return 0
    if len(argv) != 1 or argv[0] not in SCRIPTS:
        near = nearest(argv[0], SCRIPTS) if argv else "."
        raise UserError(f"`oamarl completion` needs the name of a shell: {one_of(SCRIPTS)}{near or '.'}")
    print(SCRIPTS[argv[0]].lstrip("\n"), end="")
    return 0
