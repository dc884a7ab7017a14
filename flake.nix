{
  description = "A throwaway git worktree and a namespace sandbox around any coding agent";

  # There is no flake.lock yet: Nix takes the newest nixpkgs of this branch. It
  # has the Go that go.mod asks for.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      eachSystem =
        f:
        nixpkgs.lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = eachSystem (pkgs: {
        default = pkgs.callPackage ./nix/package.nix {
          revision = self.shortRev or self.dirtyShortRev or "";
        };
      });

      devShells = eachSystem (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix { };
      });
    };
}
