# A stand-in for nixpkgs in tests: as much of its module system as definitions of
# micro-VMs meet, and packages that cannot be built.
{
  outputs = _: { lib = import ./lib.nix; };
}
