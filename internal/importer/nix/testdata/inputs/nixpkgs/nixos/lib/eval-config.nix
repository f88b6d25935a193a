{ modules, specialArgs ? { }, pkgs, ... }:
(import ../../lib.nix).nixosSystem { inherit modules specialArgs pkgs; }
