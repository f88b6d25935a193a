{
  outputs = _: {
    lib = {
      userSettings = { pkgs, ... }: {
        users.users.michael = { isNormalUser = true; home = "/home/michael"; shell = pkgs.zsh; };
      };
      systemdNetwork = { };
      systemdBoot = { };
      prometheusNode = { };
      emacsWithPackages = { pkgs }: pkgs.emacs;
    };
  };
}
