{ outputs = _: { nixosModules.zkjbackup = { }; }; }
