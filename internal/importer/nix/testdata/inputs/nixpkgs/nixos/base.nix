# Options as NixOS has them, and some that it sets by itself: none of these may get
# into a machine's file.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  lines = option types.lines "";
in
{
  options = {
    networking = {
      hostName = option types.str null;
      interfaces = option (types.attrsOf types.anything) { };
      defaultGateway = option types.anything null;
    };
    systemd.network.networks = option (types.attrsOf types.anything) { };
    environment = {
      systemPackages = option (types.listOf types.anything) [ ];
      variables = option (types.attrsOf types.anything) { };
      sessionVariables = option (types.attrsOf types.anything) { };
      extraInit = lines;
      shellInit = lines;
      interactiveShellInit = lines;
    };
    programs = {
      nano.enable = option types.bool true;
      less.enable = option types.bool false;
      git.enable = option types.bool false;
      zsh = { enable = option types.bool false; interactiveShellInit = lines; };
      fish = { enable = option types.bool false; interactiveShellInit = lines; };
    };
    users.users = option (types.attrsOf (types.submodule ({ config, lib, ... }: {
      options = {
        isNormalUser = option types.bool false;
        home = option types.str "/var/empty";
        shell = option types.anything pkgs.shadow;
        packages = option (types.listOf types.anything) [ ];
      };
      config = lib.mkIf config.isNormalUser { shell = lib.mkDefault pkgs.bashInteractive; };
    }))) { };
  };
  config = {
    environment.systemPackages = [ pkgs.bashInteractive pkgs.coreutils ];
    environment.variables.EDITOR = lib.mkDefault "nano";
    environment.extraInit = "set-up of NixOS";
    programs.less.enable = lib.mkDefault true;
    users.users.root.home = "/root";
    users.users.nobody = { };
  };
}
