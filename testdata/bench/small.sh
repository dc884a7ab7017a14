# The everyday commands on the smallest repository, by hyperfine. Sourced by run;
# the working folder is the repository.

everyday() {
    # The commands of git that rcc run and rcc task stand for.
    cat >../worktree <<-'END'
		git worktree add -q --detach ../tree && git worktree remove --force ../tree
	END
    cat >../worktree-commit <<-'END'
		git worktree add -q -b work ../tree && cd ../tree && echo changed >Kbuild &&
		git commit -qam work && cd ../repo && git worktree remove ../tree
	END
    # A file system on a disk has a cost of its own for each new file.
    memory=$(mktemp -d /dev/shm/rcc-bench-XXXXXX)
    trap 'rm -rf "$memory"' EXIT
    # Each timed run of a task begins with no task of before.
    cat >../no-task <<-'END'
		rcc discard work && rcc gc --all || true
		git branch -q -D work || true
	END
    local none='sh ../no-task' task="rcc task change --name work -- sh -c 'echo changed >Kbuild'"
    timeout 900 hyperfine -N --warmup 3 --runs "$runs" --export-json ../times.json \
        --prepare true "rcc run -- true" \
        --prepare true "env XDG_STATE_HOME=$memory/state XDG_CACHE_HOME=$memory/cache rcc run -- true" \
        --prepare true "bwrap --unshare-all --ro-bind / / true" \
        --prepare true "unshare -Urmpf true" \
        --prepare true "sh ../worktree" \
        --prepare "$none" "$task" \
        --prepare "$none" "sh ../worktree-commit" >../hyperfine.log 2>&1 || { cat ../hyperfine.log >&2; return 1; }
    sed -i "s|env XDG_STATE_HOME=$memory/state XDG_CACHE_HOME=$memory/cache \\(.*\\)\"|\\1, state and cache on tmpfs\"|" ../times.json
    sed -i 's/sh \.\.\/worktree-commit/git worktree add, edit, git commit, git worktree remove/
        s/sh \.\.\/worktree/git worktree add, git worktree remove/' ../times.json
    table ../times.json
    $none >/dev/null 2>&1
    rm -rf "$memory"
}
