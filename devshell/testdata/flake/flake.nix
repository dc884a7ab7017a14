# A flake without inputs, so that it needs no network: its tools are a static
# bash and busybox, which the test puts into ./tools.
{
  description = "a dev shell for tests";

  outputs = { self }:
    let
      system = "@system@";
      tools = derivation {
        name = "tools";
        inherit system;
        builder = "${./tools}/bash";
        args = [ "-c" ''
          busybox=${./tools}/busybox
          $busybox mkdir -p $out/bin
          $busybox cp ${./tools}/bash ${./tools}/busybox $out/bin/
          for name in cat env ls mkdir mktemp sh sleep; do $busybox ln -s busybox $out/bin/$name; done
          echo '#!'$out/bin/bash >$out/bin/own-tool
          echo 'echo this is own-tool' >>$out/bin/own-tool
          $busybox chmod +x $out/bin/own-tool
        '' ];
      };
      shell = attrs: derivation ({
        name = "demo-shell";
        inherit system tools;
        builder = "${tools}/bin/bash";
        outputs = [ "out" "dev" ];
        stdenv = "${./stdenv}";
        modified = toString self.lastModified;
      } // attrs);
    in {
      devShells.${system} = {
        default = shell {
          GREETING = "hello";
          shellHook = ''
            echo "hook of $out $GREETING" >&2
            hooked=1
          '';
        };
        plain = shell { name = "plain"; };
        structured = shell {
          name = "structured";
          __structuredAttrs = true;
          list = [ "a" "b c" ];
          set = { x = "1"; y = "it's"; };
        };
      };
      packages.${system} = {
        tool = shell { name = "tool"; };
        default = shell { name = "package"; };
      };
      legacyPackages.${system}.deep = {
        "a b" = shell { name = "deep"; };
        "c%20d#é" = shell { name = "deeper"; };
      };
    };
}
