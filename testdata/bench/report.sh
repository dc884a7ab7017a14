# The tables of what was measured at the sizes. Sourced by run. They read lines of
# "size TAB name TAB median TAB count", the smallest size first.

# What each row of the table is: name, unit, text.
rows() {
    cat <<-'END'
	files|n|files of the repository
	bytes|MB|their size, MB
	start|ms|`rcc run`: until the command begins
	run|ms|`rcc run`: all of it
	worktree|ms|`git worktree add`
	worktree-remove|ms|`git worktree remove --force`
	status-task|ms|first `git status` in a task
	status-checkout|ms|`git status` in the checkout
	status-worktree|ms|first `git status` in a git worktree
	harvest|ms|harvest of 10 changed files (phases harvest and accept)
	diff|ms|`rcc diff` of them
	commit|ms|`git add -A && git commit` of the same 10 in the checkout
	disk-none|MB|disk of a task that only asked `git status`, MB
	disk-ten|MB|disk of a task that changed 10 files, MB
	changed|MB|those 10 files, MB
	disk-worktree|MB|disk of a git worktree, MB
	cache|MB|what all tasks share (`$XDG_CACHE_HOME/rcc`), MB
	many|ms|20 tasks at once on 2 cores, until the last one's command begins
	base-full|ms|`rcc run` until the command begins, first of all, without a base
	base-next|ms|a base for a commit 100 files away
	END
}

sizes_table() { # MEASURED
    awk -F'\t' -v rows="$(rows)" '
        function show(size, name, unit,   v, text) {
            if (!((size, name) in median)) return "–"
            v = median[size, name]
            if (unit == "n") return sprintf("%d", v)
            if (unit == "MB") return sprintf(v < 1e8 ? "%.2f" : "%.0f", v / 1e6)
            return sprintf(v < 100 ? "%.1f (%d)" : "%.0f (%d)", v, count[size, name])
        }
        !($1 in seen) { seen[$1] = 1; size[++sizes] = $1 }
        { median[$1, $2] = $3; count[$1, $2] = $4 }
        END {
            printf "| ms, median (number of runs) |"; for (i = 1; i <= sizes; i++) printf " %s |", size[i]
            printf "\n|---|"; for (i = 1; i <= sizes; i++) printf "---:|"
            print ""
            n = split(rows, row, "\n")
            for (r = 1; r <= n; r++) {
                split(row[r], part, "|")
                printf "| %s |", part[3]
                for (i = 1; i <= sizes; i++) printf " %s |", show(size[i], part[1], part[2])
                print ""
            }
        }' "$1"
}

# For awk: a row of a table of numbers to reach.
aim='
    # One row; figure is "" where something was not measured.
    function aim(text, figure, unit, most, least,   verdict) {
        if (figure == "") { printf "| %s | not measured | **not reached** |\n", text; return }
        verdict = (most == "" || figure <= most) && (least == "" || figure >= least) ? "reached" : "**not reached**"
        printf "| %s | " (figure < 10 ? "%.2f" : "%.0f") "%s | %s |\n", text, figure, unit, verdict
    }
'

# The numbers to reach, at the largest size.
aims_table() { # MEASURED SMALLEST LARGEST
    awk -F'\t' -v small="$2" -v large="$3" "$aim"'
        function at(name) { return m[large, name] }
        function over(a, b) { return a == "" || b == "" ? "" : a / b }
        { m[$1, $2] = $3 }
        END {
            print "| aim at " large " files | figure | |"
            print "|---|---:|---|"
            aim("`rcc run` to the first instruction: under 40 ms", at("start"), " ms", 40)
            aim("… at most 2 times that of " small " files", over(at("start"), m[small, "start"]), " times", 2)
            aim("… at least 200 times faster than `git worktree add`", over(at("worktree"), at("start")), " times", "", 200)
            aim("first `git status` inside: at most 1.3 times that in a warm checkout", over(at("status-task"), at("status-checkout")), " times", 1.3)
            takeover = at("harvest") + at("diff")
            aim("harvest and `rcc diff` of 10 changed files: under 100 ms", takeover, " ms", 100)
            aim("… at least 5 times faster than `git add -A && git commit`", over(at("commit"), takeover), " times", "", 5)
            aim("disk of a task that changed nothing: at most 2 MB", at("disk-none") / 1e6, " MB", 2)
            aim("disk of a task that changed 10 files, without these: at most 2 MB", (at("disk-ten") - at("changed")) / 1e6, " MB", 2)
            if (at("many") == "") tasks = sprintf(" (20 trees would take %.0f GB)", at("disk-none") * 20 / 1e9)
            aim("20 tasks at once on 2 cores begin within 5 s" tasks, at("many") == "" ? "" : at("many") / 1000, " s", 5)
            aim("base for a commit 100 files away: under 300 ms", at("base-next"), " ms", 300)
        }' "$1"
}
