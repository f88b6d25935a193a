# Options as NixOS has them, and some that it sets by itself: none of these may get
# into a machine's file.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  lines = option types.lines "";
  # Options that mayfly does not read.
  unread = option types.anything null;
in
{
  options = {
    networking = {
      hostName = option types.str null;
      interfaces = option (types.attrsOf types.anything) { };
      defaultGateway = option types.anything null;
      useDHCP = unread;
      useNetworkd = unread;
      tempAddresses = unread;
      nameservers = unread;
      firewall.enable = option types.bool true;
    };
    services = {
      openssh = { enable = option types.bool false; hostKeys = unread; };
      resolved.enable = option types.bool false;
      nginx.enable = option types.bool false;
    };
    system.stateVersion = unread;
    systemd = {
      mounts = unread;
      settings.Manager = unread;
      network.enable = option types.bool false;
      network.networks = option (types.attrsOf types.anything) { };
    };
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
    users.groups = unread;
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
    services.resolved.enable = lib.mkDefault true;
    users.users.root.home = "/root";
    users.users.nobody = { };
  };
}
