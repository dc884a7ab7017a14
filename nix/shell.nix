# All that `make test` and `make check` use. What .ci/run installs on Debian, but for
# static bash and busybox, which nixpkgs has under other names than the tests look
# for: those with real Nix are skipped here.
{
  mkShell,
  go,
  gnumake,
  gcc, # the race detector
  git,
  bubblewrap, # the benchmark compares with it
  hyperfine,
  strace, # tests that look at system calls
  bashInteractive, # completion and hooks are tried in the real shells
  zsh,
  fish,
  direnv,
  nix,
  python3, # tests that try system calls from a program
  procps,
  util-linux,
  nftables, # the firewall's rules are compared with what it makes of them
  iproute2, # addresses and routes of the tests' networks
  curl, # programs that the tests' networks are used by
  openssl,
  openssh,
  nodejs,
  shadow, # the ordinary user that root's tests run as too
  dpkg, # unpacks a source package
}:
mkShell {
  packages = [
    go
    gnumake
    gcc
    git
    bubblewrap
    hyperfine
    strace
    bashInteractive
    zsh
    fish
    direnv
    nix
    python3
    procps
    util-linux
    nftables
    iproute2
    curl
    openssl
    openssh
    nodejs
    shadow
    dpkg
  ];

  # Go takes the toolchain that is here, and says so when go.mod asks for a newer one.
  GOTOOLCHAIN = "local";
}
