{ config, lib, pkgs, ... }:
let
  inherit (lib) mkIf mkOption types;
  option = type: default: mkOption { inherit type default; };
  history = builtins.listToAttrs (map (name: { inherit name; value = mkOption { }; }) [ "append" "ignoreDups" "save" "share" "size" ]);
in
{
  options = {
    home = {
      username = mkOption { };
      homeDirectory = mkOption { };
      packages = option (types.listOf types.anything) [ ];
      sessionVariables = option (types.attrsOf types.anything) { };
      file = option (types.attrsOf types.anything) { };
      stateVersion = mkOption { };
    };
    programs = {
      zsh = { enable = option types.bool false; initContent = option types.lines ""; inherit history; };
      emacs = { enable = option types.bool false; package = option types.anything pkgs.emacs; };
      home-manager.enable = option types.bool false;
    };
  };
  config = mkIf config.programs.zsh.enable {
    home.packages = [ pkgs.zsh pkgs.coreutils ];
    home.sessionVariables.LOCALE_ARCHIVE = "/nix/store/of-home-manager";
    programs.zsh.initContent = "fpath+=(/nix/store/of-home-manager)";
  };
}
