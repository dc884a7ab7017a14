# From single times to tables. Sourced by run.

# "name TAB number" lines to "name TAB median TAB count", names in their first order.
summary() {
    awk -F'\t' '!($1 in at) { at[$1] = ++n } { print at[$1] "\t" $0 }' | sort -t$'\t' -k1,1n -k3,3g | awk -F'\t' '
        function flush() {
            if (n) printf "%s\t%.3f\t%d\n", name, n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2, n
            n = 0
        }
        $2 != name { flush(); name = $2 }
        { v[++n] = $3 }
        END { flush() }'
}

# hyperfine's JSON to "command TAB ms" lines, one for each run.
times() { # JSON
    awk '
        /^ *"command": / { sub(/^ *"command": "/, ""); sub(/",$/, ""); gsub(/\\"/, "\""); command = $0 }
        /^ *"times": \[/ { times = 1; next }
        times && /\]/ { times = 0 }
        times { printf "%s\t%.3f\n", command, $1 * 1000 }' "$1"
}

# A table of medians; each group is measured against its first line, rcc.
table() { # JSON
    echo '| command | median, ms | runs | rcc takes |'
    echo '|---|---:|---:|---:|'
    times "$1" | summary | awk -F'\t' '
        $1 ~ /^rcc / && $1 !~ /tmpfs$/ { rcc = $2; printf "| `%s` | %.1f | %d | |\n", $1, $2, $3; next }
        { printf "| `%s` | %.1f | %d | %.1f times as long |\n", $1, $2, $3, rcc / $2 }'
}

# Phases of a task's event log on standard input: "phase TAB ms", in order.
phases() {
    awk '
        { match($0, /"time":"[^"]*"/); split(substr($0, RSTART + 19, RLENGTH - 21), c, ":") }
        { now = c[1] * 3600000 + c[2] * 60000 + c[3] * 1000 }
        /"event":"phase"|"event":"end"/ {
            if (name) { d = now - then; if (d < 0) d += 86400000; printf "%s\t%.2f\n", name, d }
            match($0, /"text":"[^"]*"/); name = substr($0, RSTART + 8, RLENGTH - 9); then = now
        }'
}

# A table of "phase TAB ms" lines, medians.
phase_table() {
    echo '| phase | ms |'
    echo '|---|---:|'
    summary | awk -F'\t' '{ printf "| %s | %.1f |\n", $1, $2; all += $2 } END { printf "| together | %.1f |\n", all }'
}

# Processes in a trace of execve and exit: when each began, how long it lived.
processes() { # TRACE
    awk '
        # What a process is for: git without the options that every call has,
        # its subcommand and its last word.
        function purpose(args,   word, n, i, out) {
            gsub(/"-c", "[^"]*", |"--[^"]*", |[",]/, "", args)
            n = split(args, word, " ")
            sub(/.*\//, "", word[1])
            if (word[1] != "git") return word[1]
            for (i = 2; i <= n && word[i] ~ /^-/; i++);
            out = "git " word[i]
            if (i < n && word[n] !~ /^-/) out = out (i + 1 < n ? " … " : " ") word[n]
            return out
        }
        NR == 1 { start = $2 }
        { now = ($2 - start) * 1000 }
        / execve\(/ && !($1 in began) { # a thread never execs; who execs twice is one process
            match($0, /\[.*\]/)
            began[$1] = now; order[++n] = $1; what[$1] = purpose(substr($0, RSTART + 1, RLENGTH - 2))
        }
        /\+\+\+ exited with/ && ($1 in began) { ended[$1] = now }
        END {
            for (i = 1; i <= n; i++) {
                p = order[i]; d = (p in ended) ? ended[p] - began[p] : 0
                printf "%8.1f %8.1f  %s\n", began[p], d, what[p]
                if (what[p] ~ /^git /) { gits++; all += d }
            }
            printf "\n%d git processes, together %.1f ms\n", gits, all
        }' "$1"
}

# Regions of git's GIT_TRACE2_PERF_BRIEF output: "region TAB ms", the first level only.
regions() {
    awk -F' *[|] *' '
        $3 == "region_leave" && sub(/^label:/, "", $8) { sub(/ .*/, "", $8); printf "%s\t%.2f\n", $8, $6 * 1000 }
        $3 == "atexit" { printf "together\t%.2f\n", $5 * 1000 }'
}
