# A dev shell: the environment of a derivation, as $stdenv/setup leaves it.
{
  system,
  make,
  name,
  nonce,
  shellHook,
}:
derivation {
  inherit name system shellHook;
  builder = make.bash;
  args = [
    "-c"
    "echo this is a dev shell, not for building; exit 1"
  ];
  outputs = [ "out" ];
  stdenv = builtins.path {
    name = "stdenv";
    path = ./stdenv;
  };
  nativeBuildInputs = [
    make.greet
    make.applets
    make.tools
  ];
  PROJECT_NONCE = nonce;
  PROJECT_TEXT = "two words, a 'quote', a \"double\", a $dollar, a \\ and\na second line";
}
