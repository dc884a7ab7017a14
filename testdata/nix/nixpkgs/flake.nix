# A stand-in for nixpkgs, for --override-input: as much of it as flake.nix and nix/
# of this repository use, so that real Nix evaluates them without a network, and
# builds the dev shell. The programs do nothing but say their names; they are made
# by the static ones that the test puts into tools/bin.
#
# What is not listed here is an error, as a misspelt name is in nixpkgs: who adds
# one looks it up there first (https://search.nixos.org/packages).
{
  outputs =
    { self }:
    let
      genAttrs =
        names: f:
        builtins.listToAttrs (
          map (name: {
            inherit name;
            value = f name;
          }) names
        );

      lib = {
        inherit genAttrs;
        optionalString = on: text: if on then text else "";
        cleanSource = path: path;
        licenses.asl20.spdxId = "Apache-2.0";
        platforms.linux = [
          "x86_64-linux"
          "aarch64-linux"
        ];
      };

      programs = [
        "bashInteractive"
        "bubblewrap"
        "curl"
        "direnv"
        "dpkg"
        "fish"
        "gcc"
        "git"
        "gnumake"
        "go"
        "hyperfine"
        "installShellFiles"
        "iproute2"
        "nftables"
        "nix"
        "nodejs"
        "openssh"
        "openssl"
        "procps"
        "python3"
        "shadow"
        "strace"
        "util-linux"
        "zsh"
      ];

      packagesFor =
        system:
        let
          tools = builtins.path {
            name = "tools";
            path = ./tools;
          };
          bash = "${tools}/bin/bash";
          make =
            attrs:
            derivation (
              {
                inherit system;
                builder = bash;
                outputs = [ "out" ];
                stdenv = builtins.path {
                  name = "stdenv";
                  path = ./stdenv;
                };
              }
              // attrs
            );

          program =
            name:
            make {
              inherit name;
              args = [
                "-euc"
                ''
                  PATH=${tools}/bin
                  busybox mkdir -p $out/bin
                  echo '#!${bash}' >$out/bin/$name
                  echo "echo $name of the stand-in" >>$out/bin/$name
                  busybox chmod +x $out/bin/$name
                ''
              ];
            };

          pkgs = genAttrs programs program // {
            inherit lib;
            stdenv = {
              hostPlatform = { inherit system; };
              buildPlatform.canExecute = platform: platform.system == system;
            };

            # With the attributes of its own that say how it builds.
            buildGoModule =
              {
                pname,
                version,
                src,
                vendorHash,
                subPackages,
                ldflags,
                env,
                doCheck,
                nativeBuildInputs,
                postInstall,
                meta,
              }:
              make {
                name = "${pname}-${version}";
                inherit
                  version
                  vendorHash
                  subPackages
                  ldflags
                  doCheck
                  nativeBuildInputs
                  postInstall
                  ;
                inherit (env) CGO_ENABLED;
                src = builtins.path {
                  name = "source";
                  path = src;
                };
                args = [
                  "-c"
                  "echo the stand-in does not build; exit 1"
                ];
              }
              // {
                inherit meta;
              };

            mkShell =
              { packages, ... }@attrs:
              make (
                removeAttrs attrs [ "packages" ]
                // {
                  name = "nix-shell";
                  nativeBuildInputs = packages;
                  args = [
                    "-c"
                    "echo a dev shell is not for building; exit 1"
                  ];
                }
              );

            callPackage =
              path: args:
              let
                f = import path;
              in
              f (builtins.intersectAttrs (builtins.functionArgs f) pkgs // args);
          };
        in
        pkgs;
    in
    {
      inherit lib;
      legacyPackages = genAttrs lib.platforms.linux packagesFor;
    };
}
