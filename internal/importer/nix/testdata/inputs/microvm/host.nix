{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  evaluated = vm: {
    merge = defs: {
      value = import "${toString vm.nixpkgs}/nixos/lib/eval-config.nix" {
        modules = [ ./microvm.nix ] ++ map (d: d.value) defs;
        inherit (vm) specialArgs;
        inherit pkgs;
      };
    };
  };
in
{
  options.microvm = {
    autostart = mkOption { type = types.listOf types.str; default = [ ]; };
    vms = mkOption {
      default = { };
      type = types.attrsOf (types.submodule ({ config, ... }: {
        options = {
          config = mkOption { type = evaluated config; default = null; };
          evaluatedConfig = mkOption { default = null; };
          flake = mkOption { default = null; };
          nixpkgs = mkOption { default = pkgs.path; };
          specialArgs = mkOption { type = types.attrsOf types.anything; default = { }; };
          autostart = mkOption { type = types.bool; default = true; };
        };
      }));
    };
  };
}
