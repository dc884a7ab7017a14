# The network of a task beside slirp4netns and pasta: one stream, the time to connect,
# many connections at once, and what the network adds to the start of a task. Sourced
# by run; the working folder of the measurements is the repository, and they go to
# ../samples (see sizes.sh).
#
# The world is two network namespaces that only the benchmark has: in one the servers
# (server.c and iperf3) at an address that looks public, in the other everything that
# is measured; a veth pair joins them. Nothing is sent to anywhere else. They have a
# mount namespace, for /etc/resolv.conf, and a PID namespace: at its end all are gone.

public=93.184.216.34 server=server.test # whom the servers are
byte_port=7000
crowd=1000
ways=(bare slirp4netns pasta rcc)

# What the machine lacks for it, in words; nothing when it lacks nothing.
network_lacks() {
    local program
    for program in iperf3 slirp4netns pasta ip ss nsenter ps; do
        command -v "$program" >/dev/null || { echo "there is no $program"; return; }
    done
    if [ ! -e /etc/resolv.conf ]; then
        echo 'there is no /etc/resolv.conf, in whose place there would be another one'
    elif ! "${world[@]}" true 2>/dev/null; then
        echo 'namespaces are not to be had'
    fi
}

# The section of it, as the user that PREFIX makes.
network_section() { # DIR PREFIX...
    local dir=$1 lack PATH=$PATH:/usr/sbin:/sbin
    local world=(unshare --net --mount --pid --fork --mount-proc --kill-child)
    shift
    if [ "$(id -u)" -ne 0 ]; then
        # Who makes the world is root in it, which is nobody whom rcc runs for.
        world+=(--user --map-root-user)
        set -- unshare --user --map-user="$(id -u)" --map-group="$(id -g)"
    fi
    printf '\n### Network\n\n'
    lack=$(network_lacks)
    if [ -n "$lack" ]; then
        echo "Not measured: $lack."
        return
    fi
    mkdir "$dir"
    [ "${1-}" != setpriv ] || chown 61234:61234 "$dir"
    "${world[@]}" bash "$work/bench/run" network-server "$dir" "$@"
    rm -rf "$dir"
}

# The first namespace: the servers, then the second one, which has the others.
network_server() { # DIR PREFIX...
    local try PATH=${here%/*}/bin:$PATH
    ulimit -Sn 4096 # often 1024, and slirp4netns asks for no more than it has
    ip link set lo up
    ip address add "$public/32" dev lo
    server byte "$public" "$byte_port" &
    server name "$public" "$server" &
    iperf3 -s >/dev/null 2>&1 & # the client says what failed
    for ((try = 0; $(ss -Hlntu | wc -l) < 3; try++)); do
        [ $try -lt 100 ] || { echo 'cannot measure the network: a server does not listen' >&2; return 1; }
        sleep 0.1
    done
    echo "nameserver $public" >"$1/resolv.conf"
    mount --bind "$1/resolv.conf" "$(realpath /etc/resolv.conf)"
    unshare --net bash "$here/run" network-host "$@"
}

# The second namespace; who is PID 1 has the first one. slirp4netns and pasta open
# /dev/net/tun, which some machines have for root only.
network_host() { # DIR PREFIX...
    local dir=$1
    shift
    ip link set lo up
    ip link add world type veth peer name host netns 1
    nsenter --target 1 --net sh -euc 'ip address add 198.51.100.1/24 dev host; ip link set host up'
    ip address add 198.51.100.2/24 dev world
    ip link set world up
    ip route add default via 198.51.100.1
    "${here%/*}/bin/server" byte 127.0.0.1 "$byte_port" &
    if ! "$@" test -w /dev/net/tun; then
        # shellcheck disable=SC2015 # either is the reason
        mknod -m 666 "$dir/tun" c 10 200 2>/dev/null && mount --bind "$dir/tun" /dev/net/tun || {
            echo 'Not measured: /dev/net/tun is closed to this user.'
            return
        }
    fi
    "$@" env -u GIT_AUTHOR_NAME -u GIT_AUTHOR_EMAIL -u GIT_COMMITTER_NAME -u GIT_COMMITTER_EMAIL \
        RUNS="$runs" SECONDS_EACH="$seconds" bash "$here/run" network "$dir"
}

# The ways to the server: each runs a command there. What the programs say goes to
# ../network.log, which is shown when a measurement fails.

by_bare() { timeout "$patience" "$@"; }

# Without ports of its own: those it would look for all the time. Of the host's root
# it makes nobody, who may then not make its namespaces.
by_pasta() {
    local user=()
    [ "$(id -u)" -ne 0 ] || user=(unshare --user --map-root-user)
    timeout "$patience" "${user[@]}" pasta --config-net --quiet -t none -u none -T none -U none -- "$@"
}

by_rcc() { timeout "$patience" rcc run --net allow --allow "$server" -- "$@"; }

# It is given a namespace whose command waits until the network is there.
by_slirp4netns() {
    local inside slirp word failed=0
    rm -f ../up ../go
    mkfifo ../up ../go
    exec 8<>../up 9<>../go
    unshare --user --map-root-user --net sh -c 'echo up >&8; read -r word <&9; exec timeout "$@" 8>&- 9>&-' sh "$patience" "$@" <&0 &
    inside=$!
    if read -r -t 10 word <&8; then
        # shellcheck disable=SC2024
        slirp4netns --configure --mtu=65520 --disable-host-loopback --userns-path="/proc/$inside/ns/user" --ready-fd=8 \
            "$inside" tap0 >../slirp.log 2>&1 9>&- &
        slirp=$!
        read -r -n 1 -t 10 word <&8 || cat ../slirp.log >&2
        echo go >&9
        wait "$inside" || failed=$?
        kill "$slirp"
        wait "$slirp" || true
    else
        failed=1
    fi
    exec 8>&- 9>&-
    return $failed
}

# Mbit/s of one stream at the side that receives.
stream() { # WAY [-R]
    "by_$1" iperf3 -c "$server" -t 3 -f m "${@:2}" | awk '/ receiver$/ { print $(NF - 2) }'
}

streams() {
    local way
    for way in "${ways[@]}"; do
        sample "to $way" "$(stream "$way" 2>../network.log || cat ../network.log >&2)"
        sample "from $way" "$(stream "$way" -R 2>../network.log || cat ../network.log >&2)"
    done
}

connects() {
    local way
    sample 'connect loopback' "$(./dial often 300 127.0.0.1 "$byte_port")"
    for way in "${ways[@]}"; do
        sample "connect $way" "$("by_$way" ./dial often 300 "$server" "$byte_port" 2>../network.log || cat ../network.log >&2)"
    done
}

# The memory of the processes of a way, in bytes, by the names that they are called
# by, such as rcc-gate; nobody else's are in the namespace. What they share is
# counted in each.
memory() { # WAY
    ps -e -o rss=,args= | awk -v way="$1" 'index($2, way) == 1 { all += $1 } END { print all * 1024 }'
}

# Connections at once, which are held until the memory is known. What loses one of
# them has no number in that round; rcc shall lose none.
crowds() {
    local way
    for way in "${ways[@]}"; do
        (crowd_by "$way") 2>../network.log && continue
        cat ../network.log >&2
        echo "of $crowd connections at once by $way, not all came about" >&2
        [ "$way" != rcc ] || return 1
    done
}

crowd_by() { # WAY
    local word took to
    coproc CROWD { "by_$1" ./dial many "$crowd" "$server" "$byte_port"; }
    read -r -t "$patience" word <&"${CROWD[0]}" || return 1
    sample "before $1" "$(memory "$1")"
    echo go >&"${CROWD[1]}"
    read -r -t "$patience" took <&"${CROWD[0]}" || return 1
    sample "during $1" "$(memory "$1")"
    sample "crowd $1" "$took"
    to=${CROWD[1]}
    exec {to}>&-
    wait "$CROWD_PID"
}

# What the network adds to the start of a task.
begin_task() { # NAME FLAG...
    local start end
    read -r start end < <(timeout "$patience" clock first rcc run "${@:2}" -- ./clock now)
    sample "start $1" "$start"
    sample "run $1" "$end"
}

begin_tasks() {
    begin_task none --net none
    begin_task allow --net allow --allow "$server"
}

network_aims() { # MEDIANS
    awk -F'\t' "$aim"'
        function over(a, b) { return a == "" || b == "" ? "" : a / b }
        { m[$1] = $2 }
        END {
            print "| aim | figure | |"
            print "|---|---:|---|"
            aim("one stream to the server: at least 5 times that by slirp4netns", over(m["to rcc"], m["to slirp4netns"]), " times", "", 5)
            aim("… not below that by pasta", over(m["to rcc"], m["to pasta"]), " times", "", 1)
            aim("one stream from the server: at least 5 times that by slirp4netns", over(m["from rcc"], m["from slirp4netns"]), " times", "", 5)
            aim("… not below that by pasta", over(m["from rcc"], m["from pasta"]), " times", "", 1)
            aim("a connection and its first byte: under 1 ms more than on loopback", (m["connect rcc"] - m["connect loopback"]) / 1000, " ms", 1)
            aim("`--net allow` adds at most 5 ms to `rcc run` until the command begins", m["start allow - start none"], " ms", 5)
            aim("… and to all of it", m["run allow - run none"], " ms", 5)
        }' "$1"
}

# name|unit|text
network_rows() {
    cat <<-END
	to|Gbit/s|one stream to the server, Gbit/s
	from|Gbit/s|one stream from the server, Gbit/s
	connect|µs|a connection and its first byte, µs, one after the other
	crowd|ms|$crowd connections at once, until each has its byte, ms
	before|MB|memory (RSS) before them, MB
	during|MB|memory while they are open, MB
	END
}

network_table() { # MEDIANS
    awk -F'\t' -v rows="$(network_rows)" -v ways="loopback ${ways[*]}" '
        function show(name, unit,   v) {
            if (!(name in median) || unit == "MB" && median[name] == 0) return "–"
            v = median[name]
            if (unit == "Gbit/s") return sprintf("%.2f", v / 1000)
            if (unit == "MB") return sprintf("%.1f", v / 1e6)
            return sprintf(v < 100 ? "%.1f" : "%.0f", v)
        }
        { median[$1] = $2; count[$1] = $3 }
        END {
            m = split(ways, way, " ")
            printf "| median | runs |"; for (w = 1; w <= m; w++) printf " %s |", way[w]
            printf "\n|---|---:|"; for (w = 1; w <= m; w++) printf "---:|"
            print ""
            n = split(rows, row, "\n")
            for (r = 1; r <= n; r++) {
                split(row[r], part, "|")
                printf "| %s | %d |", part[3], count[part[1] " rcc"]
                for (w = 1; w <= m; w++) printf " %s |", show(part[1] " " way[w], part[2])
                print ""
            }
        }' "$1"
}

# All of it as one user, in a folder of its own; prints Markdown.
measure_network() { # DIR
    local load few=$((runs < 5 ? runs : 5))
    at_home "$1"
    echo "user $(id -u), network" >&2
    export XDG_STATE_HOME=$PWD/state XDG_CACHE_HOME=$PWD/cache
    load=$(cut -d' ' -f1-3 /proc/loadavg)
    git init -q repo
    cd repo
    cp "${here%/*}/bin/clock" "${here%/*}/bin/dial" .
    git add .
    git commit -qm network
    begin_tasks && rm ../samples # with the base made, and all in memory
    rounds "$runs" "$seconds" begin_tasks
    rounds "$few" "$seconds" connects
    rounds "$few" "$seconds" crowds
    rounds "$few" $((8 * seconds)) streams
    {
        cat ../samples
        more 'start allow' 'start none'
        more 'run allow' 'run none'
    } | summary >../medians
    echo "$(iperf3 --version | head -n 1), $(slirp4netns --version | head -n 1)$(dpkg-query -W -f ', ${Package} ${Version}' passt 2>/dev/null || true). Load average of the machine before and after: $load; $(cut -d' ' -f1-3 /proc/loadavg)."
    echo
    network_aims ../medians
    echo
    network_table ../medians
    echo
    begin_table ../medians
}

begin_table() { # MEDIANS
    echo '| ms, median (number of runs) | `--net none` | `--net allow` | difference |'
    echo '|---|---:|---:|---:|'
    awk -F'\t' '
        { m[$1] = $2; count[$1] = $3 }
        function row(text, name) {
            printf "| %s | %.1f (%d) | %.1f (%d) | %.1f |\n", text, m[name " none"], count[name " none"],
                m[name " allow"], count[name " allow"], m[name " allow - " name " none"]
        }
        END {
            row("`rcc run`: until the command begins", "start")
            row("`rcc run`: all of it", "run")
        }' "$1"
}
