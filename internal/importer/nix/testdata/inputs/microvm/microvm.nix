{ lib, ... }:
let
  option = type: default: lib.mkOption { inherit type default; };
  list = option (lib.types.listOf lib.types.anything) [ ];
in
{
  options.microvm = {
    vcpu = option lib.types.int 1;
    mem = option lib.types.int 512;
    interfaces = list;
    volumes = list;
    shares = list;
    hypervisor = option lib.types.str "qemu";
    socket = option lib.types.anything null;
    writableStoreOverlay = option lib.types.anything null;
  };
}
