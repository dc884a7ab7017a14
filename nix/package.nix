# rcc as the Makefile builds it. It finds git on the PATH of who runs it.
{
  lib,
  buildGoModule,
  installShellFiles,
  stdenv,
  revision ? "", # of the commit, for `rcc version`
}:
let
  # The only place that has it is the source.
  text = builtins.readFile ../cmd/rcc/version.go;
  number = builtins.head (builtins.elemAt (builtins.split "\nvar version = \"([^\"]+)\"\n" text) 1);
  version = number + lib.optionalString (revision != "") "+${revision}";
in
buildGoModule {
  pname = "rcc";
  inherit version;
  src = lib.cleanSource ../.;

  # Of what `go mod vendor` makes; `make vendorhash` checks it and tells a new one.
  vendorHash = "sha256-fdS3SYYvlSf0ucBvrwTldzDWcF19rKO1y8vqIC6LnIM=";

  subPackages = [ "cmd/rcc" ];
  env.CGO_ENABLED = 0;
  ldflags = [
    "-s"
    "-w"
    "-X main.version=${version}"
  ];

  # The tests make user namespaces, which a builder may not: see CONTRIBUTING.md.
  doCheck = false;

  nativeBuildInputs = [ installShellFiles ];
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    installShellCompletion --cmd rcc \
      --bash <($out/bin/rcc completion bash) \
      --zsh <($out/bin/rcc completion zsh) \
      --fish <($out/bin/rcc completion fish)
  '';

  meta = {
    description = "A throwaway git worktree and a namespace sandbox around any coding agent";
    license = lib.licenses.asl20;
    mainProgram = "rcc";
    platforms = lib.platforms.linux;
  };
}
