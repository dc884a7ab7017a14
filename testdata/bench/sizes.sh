# The measurements that are made at every size. Sourced by run; the working folder
# is the repository, and what is measured goes to ../samples, "name TAB number".
# What is compared is measured by turns, as the load of a machine comes and goes.

patience=120 # seconds for one command

sample() {
    if ! [[ $2 =~ ^-?[0-9.]+$ ]]; then
        echo "cannot measure $1: '$2' is no number" >&2
        exit 1
    fi
    printf '%s\t%s\n' "$1" "$2" >>../samples
}

# Time of a command in ms, and of rcc until its command begins, TAB, ends.
whole() { timeout "$patience" clock whole "$@"; }
first() { timeout "$patience" clock first rcc run -- ./clock now; }

# Size on disk in bytes; a hard link to what is elsewhere in it counts once.
disk() { du -scB1 "$@" | awk 'END { print $1 }'; }

# Runs a function up to so many times, three times at least, and no longer than
# so many seconds when that is enough. It is given the number of the round.
rounds() { # MOST SECONDS FUNCTION
    local end=$((SECONDS + $2)) round
    for ((round = 1; round <= $1; round++)); do
        "$3" "$round"
        if [ $round -ge 3 ] && [ $SECONDS -ge $end ]; then break; fi
    done
}

# A command that appends a line to so many files, every n-th one of the tree.
edit() { # FILES OFFSET LINE
    git ls-files -s | awk -F'\t' -v want="$1" -v offset="$2" -v line="$3" '
        /^100/ && $2 != "clock" { file[n++] = $2 }
        END {
            if (want > n) want = n
            printf "for f in"
            for (i = 0; i < want; i++) printf " %s", file[(int(i * n / want) + offset) % n]
            printf "; do echo \"%s\" >>$f || exit; done\n", line
        }'
}

# A task named work that runs a command to its end, and its folder.
task() { timeout "$patience" rcc task change --name work -- sh -c "$1" >../task.log 2>&1 || { cat ../task.log >&2; return 1; }; }
task_folder() { echo "$XDG_STATE_HOME"/rcc/*/work; }
no_tasks() { { rcc discard "$@" && rcc gc --all; } >../discard.log 2>&1 || { cat ../discard.log >&2; return 1; }; }

# The first run of all: a base is made where the kind of tree has one.
first_base() {
    local start end
    read -r start end < <(first)
    sample base-full "$start"
    if [ -d "$XDG_CACHE_HOME/rcc" ]; then sample cache "$(disk "$XDG_CACHE_HOME/rcc")"; fi
    # A task that stays, so that no rcc gc between measurements takes the base away.
    timeout "$patience" rcc run --keep --name kept -- sh -c "$(edit 1 0 kept)" 2>../discard.log || { cat ../discard.log >&2; return 1; }
}

start_and_status() {
    local start end
    read -r start end < <(first)
    sample start "$start"
    sample run "$end"
    sample status-task "$(timeout "$patience" rcc run -- ./clock whole git status)"
    sample status-checkout "$(whole git status)"
}

worktree() {
    sample worktree "$(whole git worktree add -q --detach ../tree)"
    sample status-worktree "$(cd ../tree && whole git status)"
    sample disk-worktree "$(disk ../tree .git/worktrees/tree)"
    sample worktree-remove "$(whole git worktree remove --force ../tree)"
}

harvest() {
    local ten
    ten=$(edit 10 0 "changed in round $1")
    task "$ten"
    rcc log --json work | phases >../phases
    cat ../phases >>../all-phases
    sample harvest "$(awk -F'\t' '$1 == "harvest" || $1 == "accept" { all += $2 } END { print all }' ../phases)"
    sample diff "$(whole rcc diff work)"
    [ "$1" -gt 1 ] || sample disk-ten "$(disk "$(task_folder)")"
    no_tasks work

    sh -c "$ten"
    # shellcheck disable=SC2046 # the names are plain
    [ "$1" -gt 1 ] || sample changed "$(disk $(git diff --name-only))"
    sample commit "$(whole sh -c 'git add -A && git commit -qm ten')"
    git reset -q --hard HEAD~1
}

# What a task takes that changed nothing but let git look at everything.
idle_disk() {
    task 'git status'
    sample disk-none "$(disk "$(task_folder)")"
    no_tasks work
}

# Tasks at once on two cores, all of them running until the last one has begun.
many=20
many() {
    local i begin last=0 now ids=() waiting=1 end=$((SECONDS + patience))
    rm -rf ../many && mkdir ../many && mkfifo ../many/hold
    exec 9<>../many/hold # so that nobody waits for a writer
    begin=$(clock now)
    for ((i = 1; i <= many; i++)); do
        ids+=("many-$i")
        timeout "$patience" taskset -c 0,1 rcc task change --name "many-$i" -- sh -c './clock now; read -r x' \
            <../many/hold >"../many/$i" 2>"../many/$i.log" 9>&- &
    done
    while [ "$waiting" -gt 0 ] && [ $SECONDS -lt $end ]; do
        sleep 0.2
        waiting=0
        for ((i = 1; i <= many; i++)); do [ -s "../many/$i" ] || waiting=$((waiting + 1)); done
    done
    exec 9>&- # the end of their input
    wait
    if [ "$waiting" -gt 0 ]; then
        cat ../many/*.log >&2
        echo "$waiting of $many tasks did not begin within $patience s" >&2
        return 1
    fi
    for ((i = 1; i <= many; i++)); do
        now=$(head -n 1 "../many/$i" | tr -d '\r')
        [ "$now" -le "$last" ] || last=$now
    done
    sample many "$(awk -v ns=$((last - begin)) 'BEGIN { printf "%.1f", ns / 1e6 }')"
    no_tasks "${ids[@]}"
}

# The first task on a commit 100 files away, against the next one.
next_base() {
    local start again end
    sh -c "$(edit 100 "$1" "commit $1")"
    git commit -qam "commit $1"
    read -r start end < <(first)
    read -r again end < <(first)
    sample base-next "$(awk -v a="$start" -v b="$again" 'BEGIN { printf "%.2f", a - b }')"
}

# Everything at one size but next_base, after which rcc may have other layers.
measure_size() {
    sample files "$(git ls-files | wc -l)"
    sample bytes "$(git ls-tree -r -l HEAD | awk '{ all += $4 } END { printf "%d", all }')"
    git status >/dev/null
    first_base
    rounds "$runs" "$seconds" start_and_status
    rounds 5 "$seconds" worktree
    rounds "$runs" "$seconds" harvest
    idle_disk
    # Copies of a large tree would fill the disk; then this is no number but a note.
    if [ "$(awk -F'\t' '$1 == "disk-none" { print int($2 * '$many' / 1e9) }' ../samples)" -lt 5 ]; then
        rounds 3 "$seconds" many
    fi
}
