{ ... }:
{
  claude-code = {
    type = "derivation";
    name = "claude-code-2.1.15";
    pname = "claude-code";
    meta.position = "${./.}/pkgs/by-name/cl/claude-code/package.nix:12";
  };
}
