# A stand-in for home-manager in tests.
{
  outputs = _: { nixosModules.home-manager = ./nixos.nix; };
}
