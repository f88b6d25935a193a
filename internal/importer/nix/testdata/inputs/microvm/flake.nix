# A stand-in for microvm.nix in tests.
{
  outputs = _: { nixosModules = { host = ./host.nix; microvm = ./microvm.nix; }; };
}
