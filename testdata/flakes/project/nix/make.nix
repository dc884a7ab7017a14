# What the project is built with: two static programs, and what they make.
{ system }:
rec {
  # A path of its own in the store, the same for every flake that has these files.
  tools = builtins.path {
    name = "tools";
    path = ../tools;
  };

  # Nix takes a builder for bash by its name (get-env.sh is run with it).
  bash = "${tools}/bin/bash";

  build =
    name: script:
    derivation {
      inherit name system;
      builder = bash;
      args = [
        "-euc"
        "PATH=${tools}/bin:$PATH; mkdir() { busybox mkdir \"$@\"; }\n${script}"
      ];
    };

  # The usual names of busybox's programs.
  applets = build "applets" ''
    mkdir -p $out/bin
    for name in $(busybox --list); do
      [ $name = busybox ] || busybox ln -s ${tools}/bin/busybox $out/bin/$name
    done
  '';

  # The project's own tool.
  greet = build "greet" ''
    mkdir -p $out/bin
    echo '#!${bash}' >$out/bin/greet
    echo 'echo "greetings from the dev shell, $*"' >>$out/bin/greet
    busybox chmod +x $out/bin/greet
  '';
}
