# A project whose dev shell has all that one can have, and no inputs: the tests
# evaluate and build it with real Nix and without a network. Its two programs,
# static ones, are put into tools/bin by the command flakerepo of the scripts,
# which also puts a word of its own in place of @NONCE@.
{
  description = "a project with a tool of its own";

  outputs =
    { self }:
    let
      eachSystem =
        f:
        builtins.listToAttrs (
          map
            (system: {
              name = system;
              value = f system;
            })
            [
              "x86_64-linux"
              "aarch64-linux"
            ]
        );
      make = system: import ./nix/make.nix { inherit system; };
    in
    {
      packages = eachSystem (system: {
        default = (make system).greet;
        # Nothing of the dev shell refers to it.
        outside = (make system).build "outside" "echo outside >$out";
      });

      devShells = eachSystem (system: {
        default = import ./nix/shell.nix {
          inherit system;
          make = make system;
          name = "project";
          nonce = "@NONCE@";
          shellHook = ''
            echo "@NONCE@" >"/tmp/hook-@NONCE@"
            export PROJECT_HOOK=ran
            project_from_hook() { echo "function of the hook: $1"; }
          '';
        };
        # The same without a hook: nothing is left to a shell.
        plain = import ./nix/shell.nix {
          inherit system;
          make = make system;
          name = "plain";
          nonce = "@NONCE@";
          shellHook = "";
        };
      });
    };
}
