{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
in
{
  options.home-manager = {
    extraSpecialArgs = mkOption { type = types.attrsOf types.anything; default = { }; };
    users = mkOption {
      default = { };
      type = types.attrsOf (types.submoduleWith {
        modules = [ ./home.nix ];
        specialArgs = { inherit pkgs; } // config.home-manager.extraSpecialArgs;
      });
    };
  };
}
