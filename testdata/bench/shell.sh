# Dev shells: a cached one beside the host's tools, nix develop and direnv; a closure
# of 1000 store paths; direnv's export. Sourced by run; the working folder of the
# measurements is the repository, and they go to ../samples (see sizes.sh).
#
# The program that every command runs is the same static busybox, in the sandbox's
# dev shell and on the host.

many_paths=1000

# What the machine lacks for it, in words; nothing when it lacks nothing.
shells_lack() {
    local program
    for program in nix nix-store bash-static busybox; do
        command -v "$program" >/dev/null || { echo "there is no $program"; return; }
    done
    if ldd "$(command -v busybox)" >/dev/null 2>&1; then
        echo 'busybox is not static; install busybox-static'
    elif [[ $(realpath "$(command -v nix)") = /nix/* ]]; then
        echo 'nix itself is in the store, in whose place there would be another one'
    elif [ "$(id -u)" -ne 0 ] || ! unshare --mount true 2>/dev/null; then
        echo 'only root can have a store of its own at /nix'
    elif [ ! -d /nix ]; then
        echo 'there is no folder /nix; run nix once'
    fi
}

# Runs a command with an empty Nix store at /nix, which whoever owns the folder can
# write to, and whose name is in /etc/passwd: Nix and bash-static ask for it. Nobody
# else sees either, and all of it goes with the folder: no path and no root for the
# garbage collector stays in the machine's store.
own_store() { # DIR COMMAND...
    mkdir "$1/nix"
    chown --reference="$1" "$1/nix"
    { cat /etc/passwd; stat -c 'bench:x:%u:%g::/nonexistent:/bin/sh' "$1"; } >"$1/passwd"
    # shellcheck disable=SC2016 # for sh
    unshare --mount --propagation private sh -euc '
        mount --bind "$1/nix" /nix
        mount --bind "$1/passwd" /etc/passwd
        shift
        exec "$@"' sh "$@"
}

# The flake, out of the parts of the one in testdata/flakes: a dev shell with a
# hook, one without, and one whose closure has many paths more. These are a
# folder with one file, in the store once for each name: no builder makes them.
shell_flake() {
    cat <<-END
		{
		  outputs =
		    { self }:
		    let
		      system = "$(uname -m)-linux";
		      make = import ./nix/make.nix { inherit system; };
		      shell =
		        name: nonce: shellHook:
		        import ./nix/shell.nix { inherit system make name nonce shellHook; };
		      tiny = number: builtins.path { name = "tiny-\${toString number}"; path = ./tiny; };
		      many = builtins.toFile "many" (toString (builtins.genList tiny $many_paths));
		    in
		    {
		      devShells.\${system} = {
		        default = shell "hook" "entered" "export BENCH_HOOK=entered";
		        plain = shell "plain" "entered" "";
		        many = shell "many" many "";
		      };
		    };
		}
	END
}

# A folder for each way in: the repository and clones of it.
shell_folders() { # FLAKE
    mkdir -p repo/tools/bin repo/tiny empty tmp
    cp -r "$1/nix" "$1/flake.lock" repo
    cp "$(command -v bash-static)" repo/tools/bin/bash
    cp "$(command -v busybox)" repo/tools/bin/busybox
    echo tiny >repo/tiny/file
    shell_flake >repo/flake.nix
    git -C repo init -q
    git -C repo add .
    git -C repo commit -qm 'dev shells'
    for folder in plain flake kept; do git clone -q repo $folder; done
    (cd repo && rcc allow 2>&1) >allow.log
    (cd plain && rcc allow 2>&1) >allow.log
    have_direnv || return 0
    rcc hook direnv 2>/dev/null
    echo 'use rcc' >repo/.envrc
    echo 'use rcc plain' >plain/.envrc
    echo 'use flake' >flake/.envrc
    # Less than nix-direnv does when nothing has changed: it also starts a few
    # processes to look after itself.
    cat >kept/.envrc <<-'END'
		watch_file flake.nix flake.lock
		if [[ flake.nix -nt kept || flake.lock -nt kept ]]; then nix print-dev-env --profile kept-profile >kept; fi
		eval "$(<kept)"
	END
    : >empty/.envrc
    for folder in repo plain flake kept empty; do direnv allow "$folder/.envrc"; done
}

have_direnv() { command -v direnv >/dev/null; }

# Ends all when a command does not say that it is in the dev shell; so each is
# tried, and warm, before it is measured.
entered() { # FOLDER COMMAND...
    local i said
    for i in 1 2 3; do
        said=$(cd "../$1" && timeout "$patience" "${@:2}" 2>../entered.log) || true
        [ "$said" = entered ] || { cat ../entered.log >&2; echo "cannot measure ${*:2}: it says '$said'" >&2; return 1; }
    done
}

# Enters each once and again, and makes what bubblewrap is called with.
all_enter() {
    local hook='echo "$BENCH_HOOK"'
    entered repo rcc run --shell flake#plain -- sh -c 'echo "$PROJECT_NONCE"'
    entered repo rcc run -- sh -c "$hook"
    entered repo rcc run --shell flake#many -- sh -c "[ \$(ls /nix/store | wc -l) -gt $many_paths ] && cat /nix/store/*-tiny-$((many_paths - 1))/file >/dev/null && echo entered"
    entered repo rcc run --shell host -- busybox sh -c '[ ! -e /nix/store ] && echo entered'
    entered repo nix develop -c sh -c "$hook"
    mapfile -t few < <(bubblewrap plain)
    mapfile -t many < <(bubblewrap many)
    [ ${#many[@]} -gt $((3 * many_paths)) ] || { echo "cannot measure a closure of $((${#many[@]} / 3)) paths" >&2; return 1; }
    entered repo "${many[@]}" sh -c 'echo entered'
    have_direnv || return 0
    local folder
    for folder in repo flake kept; do entered $folder direnv exec . sh -c "$hook"; done
    entered plain direnv exec . sh -c 'echo "$PROJECT_NONCE"'
}

# The store paths of a dev shell, as Nix tells them.
closure() { # NAME
    nix print-dev-env --profile "../profile-$1" ".#$1" >/dev/null
    nix-store -qR "../profile-$1"
}

# What bubblewrap is called with for the same store paths, one word a line.
bubblewrap() { # NAME
    local path busybox
    printf '%s\n' bwrap --unshare-all --proc /proc --dev /dev
    while read -r path; do
        printf '%s\n' --ro-bind "$path" "$path"
        [[ $path != *-tools ]] || busybox=$path/bin/busybox
    done < <(closure "$1")
    echo "$busybox"
}

# The time of a command in a folder beside the working folder, in ms.
at() { # FOLDER COMMAND...
    local folder=$1
    shift
    (cd "../$folder" && whole "$@") 2>../at.log || { cat ../at.log >&2; return 1; }
}

enter_shells() {
    sample host "$(at repo rcc run --shell host -- busybox true)"
    sample plain "$(at repo rcc run --shell flake#plain -- busybox true)"
    sample hook "$(at repo rcc run -- busybox true)"
    sample many "$(at repo rcc run --shell flake#many -- busybox true)"
    sample develop "$(at repo nix develop -c busybox true)"
    have_direnv || return 0
    sample exec-rcc "$(at repo direnv exec . busybox true)"
    sample exec-kept "$(at kept direnv exec . busybox true)"
    sample exec-flake "$(at flake direnv exec . busybox true)"
}

enter_bubblewrap() {
    sample bwrap-few "$(at repo "${few[@]}" true)"
    sample bwrap-many "$(at repo "${many[@]}" true)"
}

export_shells() {
    sample empty "$(at empty direnv export bash)"
    sample export-plain "$(at plain direnv export bash)"
    sample export-hook "$(at repo direnv export bash)"
    sample export-kept "$(at kept direnv export bash)"
    sample export-flake "$(at flake direnv export bash)"
}

# The difference of two names' samples, round by round: what the machine does
# beside it is the same for both.
more() { # NAME THAN
    awk -F'\t' -v name="$1" -v than="$2" '
        $1 == name { a[++n] = $2 }
        $1 == than { b[++m] = $2 }
        END { for (i = 1; i <= n && i <= m; i++) printf "%s - %s\t%.3f\n", name, than, a[i] - b[i] }' ../samples
}

# name|the line of rcc that it is compared with|text
shell_rows() {
    cat <<-END
	host||\`rcc run --shell host -- busybox true\`
	plain||\`rcc run --shell flake#plain -- busybox true\`, without a shellHook
	hook||\`rcc run -- busybox true\`, with a shellHook
	develop|hook|\`nix develop -c busybox true\`
	exec-rcc|hook|\`direnv exec . busybox true\`, \`use rcc\`
	exec-kept|hook|… the text of \`nix print-dev-env\` kept in a file, as nix-direnv does at the least
	exec-flake|hook|… \`use flake\` of direnv's own
	many||\`rcc run --shell flake#many -- busybox true\`, $many_paths store paths more
	bwrap-many|many|\`bwrap --unshare-all --ro-bind …\`, the same store paths
	bwrap-few|plain|… those of flake#plain
	export-hook||\`direnv export bash\`, \`use rcc\`, with a shellHook
	export-plain||… \`use rcc plain\`, without a shellHook
	export-kept|export-hook|… the text of \`nix print-dev-env\` kept in a file
	export-flake|export-hook|… \`use flake\` of direnv's own
	empty|export-hook|… an empty .envrc
	END
}

shells_table() { # MEDIANS
    echo '| command | median, ms | runs | rcc takes |'
    echo '|---|---:|---:|---:|'
    awk -F'\t' -v rows="$(shell_rows)" '
        { median[$1] = $2; count[$1] = $3 }
        END {
            n = split(rows, row, "\n")
            for (i = 1; i <= n; i++) {
                split(row[i], part, "|")
                name = part[1]; rcc = part[2]
                if (!(name in median)) continue
                takes = ""
                if (rcc != "") { times = median[rcc] / median[name]; takes = sprintf(times < 0.1 ? "%.3f" : "%.1f", times) " times as long" }
                printf "| %s | %.1f | %d | %s |\n", part[3], median[name], count[name], takes
            }
        }' "$1"
}

shells_aims() { # MEDIANS
    awk -F'\t' "$aim"'
        { m[$1] = $2 }
        END {
            print "| aim | figure | |"
            print "|---|---:|---|"
            aim("a cached dev shell: at most 5 ms more than `--shell host`", m["plain - host"], " ms", 5)
            aim("… with a shellHook", m["hook - host"], " ms", 5)
            aim("'"$many_paths"' store paths more: under 40 ms more", m["many - plain"], " ms", 40)
            if (!("empty" in m)) exit
            aim("`use rcc` in `direnv export bash`: under 15 ms", m["export-hook"], " ms", 15)
            aim("… under 4 ms more than an empty .envrc", m["export-hook - empty"], " ms", 4)
            aim("… without a shellHook", m["export-plain - empty"], " ms", 4)
        }' "$1"
}

# All of it as one user, in a folder of its own; prints Markdown.
measure_shells() { # DIR
    local few many load
    at_home "$1"
    echo "user $(id -u), dev shells" >&2
    # As Debian's Nix has to be told where there is no network, no build users and no daemon.
    export NIX_CONF_DIR=$PWD/none NIX_REMOTE=local NIX_CONFIG='experimental-features = nix-command flakes
		substituters =
		flake-registry =
		sandbox = false
		build-users-group ='
    export XDG_STATE_HOME=$PWD/state XDG_CACHE_HOME=$PWD/cache XDG_DATA_HOME=$PWD/data TMPDIR=$PWD/tmp
    load=$(cut -d' ' -f1-3 /proc/loadavg)
    shell_folders "$here/flake"
    cd repo
    all_enter
    rounds "$runs" "$seconds" enter_shells
    rounds 5 "$seconds" enter_bubblewrap
    if have_direnv; then rounds "$runs" "$seconds" export_shells; fi
    {
        cat ../samples
        more plain host
        more hook host
        more many plain
        more export-hook empty
        more export-plain empty
    } | summary >../medians
    echo "$(nix --version)$(have_direnv && echo ", direnv $(direnv version)"). Load average of the machine before and after: $load; $(cut -d' ' -f1-3 /proc/loadavg)."
    have_direnv || printf '\nWithout direnv, which is not here.\n'
    echo
    shells_aims ../medians
    echo
    shells_table ../medians
    have_direnv && cat <<-'END'

	direnv itself, with an empty .envrc, takes longer than 15 ms. Of what `use rcc` takes beyond, by turns in 60 runs: a subshell of bash with any program 1.2 ms,
	one with a Go program that does nothing 3.3 ms; the rest is the start of rcc, its look at the files (1.1 ms), and bash, which evaluates the text.
	END
}

# The section of it, as the user that PREFIX makes.
shells_section() { # DIR PREFIX...
    local dir=$1 lack
    shift
    printf '\n### Dev shells\n\n'
    lack=$(shells_lack)
    if [ -n "$lack" ]; then
        echo "Not measured: $lack."
        return
    fi
    mkdir "$dir"
    [ $# -eq 0 ] || chown 61234:61234 "$dir"
    own_store "$dir" "$@" env -u GIT_AUTHOR_NAME -u GIT_AUTHOR_EMAIL -u GIT_COMMITTER_NAME -u GIT_COMMITTER_EMAIL \
        RUNS="$runs" SECONDS_EACH="$seconds" bash "$work/bench/run" shells "$dir"
    rm -rf "$dir"
}
