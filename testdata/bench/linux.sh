# The repositories that the benchmark works on, as bare templates: all of Debian's
# linux-source-6.1, and parts of it. Sourced by run.
#
#	RCC_BENCH_LINUX  an unpacked source to take instead of the package

linux=linux-source-6.1

# Fetches the package by its name into a folder, with lists of our own and the
# machine's sources: what /etc/apt and apt's state hold does not change.
fetch_linux() { # DIR
    local dir=$1
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
    cat >"$dir/apt.conf" <<-END
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		APT::Sandbox::User "$(id -un)";
		Dir::State::lists "$dir/lists";
		Dir::Cache "$dir/cache";
	END
    # A source that has no lists does not matter while another has the package.
    timeout 300 apt-get -qq -c "$dir/apt.conf" update >&2 || true
    (cd "$dir" && timeout 600 apt-get -qq -c "$dir/apt.conf" download "$linux" >&2)
}

# Makes a bare repository of one commit with all files of a folder, symbolic links
# and executable bits too. A blob over core.bigFileThreshold goes straight into a
# pack, which spares 78000 loose objects; no deltas make git's checkouts, the
# peers, a little faster than in a repository with history.
pack_folder() { # FOLDER REPOSITORY
    git init -q --bare -b main "$2"
    GIT_DIR=$2 GIT_WORK_TREE=$1 git -c core.bigFileThreshold=1 -c core.looseCompression=1 -c core.compression=1 \
        -c core.autocrlf=false add -A -f "$1"
    commit_index "$2"
}

# Commits the index of a bare repository, then puts every object into one pack.
commit_index() { # REPOSITORY
    local tree commit
    tree=$(git --git-dir "$1" write-tree)
    commit=$(echo first | git --git-dir "$1" commit-tree "$tree")
    git --git-dir "$1" update-ref refs/heads/main "$commit"
    rm -f "$1/index"
    git --git-dir "$1" repack -adq --window=0
}

# Prints the bare repository of the whole source; makes it where it is not yet.
# Some 300 MB stay in the cache folder, and nothing of the 1.4 GB of files.
linux_repository() { # WORK
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/rcc-ci made
    if [ -n "${RCC_BENCH_LINUX-}" ]; then
        pack_folder "$(realpath "$RCC_BENCH_LINUX")" "$1/linux.git" && echo "$1/linux.git"
        return
    fi
    if [ ! -d "$cache/$linux.git" ]; then
        mkdir -p "$cache"
        made=$(mktemp -d "$cache/.fetch-XXXXXX")
        if fetch_linux "$made" && mkdir "$made/files" &&
            dpkg-deb --fsys-tarfile "$made/$linux"_*.deb | tar -xO "./usr/src/$linux.tar.xz" | tar -xJ -C "$made/files"; then
            pack_folder "$made/files/$linux" "$made/linux.git" && mv -T "$made/linux.git" "$cache/$linux.git"
        fi
        rm -rf "$made"
    fi
    [ -d "$cache/$linux.git" ] && echo "$cache/$linux.git"
}

# Makes a bare repository of about as many files of another: the files at the top
# and whole folders (without what is below them) in a random but fixed order, so
# that the number of files in a folder and their sizes are those of the source.
# A file more, clock, is the stopwatch, to be had wherever the tree is.
part_of() { # SOURCE FILES REPOSITORY CLOCK
    local blob
    git init -q --bare -b main "$3"
    echo "$1/objects" >"$3/objects/info/alternates"
    git --git-dir "$3" ls-tree -r --full-tree "$(git --git-dir "$1" rev-parse main)" | awk -F'\t' -v want="$2" '
        { folder = $2; if (!sub(/\/[^\/]*$/, "", folder)) folder = "" }
        !(folder in count) { order[++n] = folder }
        { lines[folder] = lines[folder] $0 "\n"; count[folder]++ }
        END {
            seed = 4700114 # whose files are as large as those of the source, on average
            for (i = n; i > 2; i--) { # the top comes first
                seed = seed * 16807 % 2147483647; j = 2 + seed % (i - 1)
                other = order[i]; order[i] = order[j]; order[j] = other
            }
            for (i = 1; i <= n; i++) {
                if (count[order[i]] <= want) { printf "%s", lines[order[i]]; want -= count[order[i]] }
            }
        }' | git --git-dir "$3" update-index --index-info
    blob=$(git --git-dir "$3" hash-object -w "$4")
    git --git-dir "$3" update-index --add --cacheinfo "100755,$blob,clock"
    commit_index "$3"
    rm "$3/objects/info/alternates"
}
