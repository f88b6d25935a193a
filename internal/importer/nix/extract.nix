# A function for `nix eval`: a flake in, what mayfly reads of its nixosConfigurations'
# microvm.vms out, for JSON. It builds nothing. `machines` looks at few options, `others`
# at all of them, for what else is set.
#
# NixOS sets many options by itself: a machine's packages are its 50 and the user's 3.
# Where that matters, only what is set outside of the sources that declare the options
# (nixpkgs, microvm.nix, home-manager) is taken. Options that do not exist are left out;
# what throws is an unknown value, and has a note. What Nix cannot catch ends it all.
flake:
let
  inherit (builtins)
    all any attrNames attrValues concatMap concatStringsSep deepSeq filter foldl'
    head isAttrs isBool isList isPath listToAttrs map parseDrvName
    replaceStrings split storeDir stringLength substring toString tryEval;

  unknown = label: { _mayfly = "unknown"; name = label; };

  # known returns v, or what stands for a value that throws.
  known = v: let t = tryEval (deepSeq v v); in if t.success then t.value else unknown "what throws an error";

  # pick returns an attribute for each name that f has a value for.
  pick = names: f: listToAttrs (filter (a: a.value != null) (map (name: { inherit name; value = f name; }) names));

  unique = foldl' (list: x: if builtins.elem x list then list else list ++ [ x ]) [ ];

  # A path would be copied into the store for being printed.
  plain = v: if isPath v then toString v else v;

  package = p:
    if isAttrs p && p ? name
    then { _mayfly = "package"; name = p.pname or (parseDrvName p.name).name; }
    else if isAttrs p || isList p then unknown "without a name"
    else plain p;

  variable = v:
    if v == null then null
    else if isList v then concatStringsSep ":" (map toString v)
    else if isBool v then (if v then "true" else "false")
    else toString v;

  # source returns the path in the store that a file is in, or null.
  source = file:
    let
      text = toString file;
      below = stringLength storeDir + 1;
    in
    if substring 0 below text == storeDir + "/"
    then storeDir + "/" + head (split "/" (substring below (stringLength text) text))
    else null;

  # A path without its context says where something is, and needs nothing in the store.
  self = builtins.unsafeDiscardStringContext (toString flake.outPath) + "/";

  sourcesOf = options: filter (s: s != null) (map source (concatMap (o: o.declarations or [ ]) options));

  contains = text: part: replaceStrings [ part ] [ "" ] text != text;

  # byUser returns the definitions of an option that are in none of the sources.
  byUser = sources: option:
    filter (d: all (s: !contains (toString d.file) s) sources) (option.definitionsWithLocations or [ ]);

  texts = sources: option:
    let found = byUser sources option; in
    if found == [ ] then null else concatStringsSep "\n" (map (d: d.value) found);

  # position returns where nixpkgs defines a package, if Nix can say.
  position = p: let t = tryEval (p.meta.position or null); in if t.success && builtins.isString t.value then t.value else "";

  # A package of another nixpkgs than the one whose options the machine has is chosen for
  # its version.
  origin = sources: file: p:
    let
      at = builtins.unsafeDiscardStringContext (position p);
      from = source at;
    in
    if !isAttrs p || from == null || any (s: contains s from) sources || !contains at (from + "/pkgs/") then { }
    else { elsewhere = true; file = below (toString file); };

  packages = sources: option:
    concatMap (d: map (p: package p // origin sources d.file p) d.value) (byUser sources option);

  # The names are the user's; the values are merged, without mkIf and the like.
  variables = sources: option: values:
    pick (unique (concatMap (d: attrNames d.value) (byUser sources option)))
      (name: if values ? ${name} then variable values.${name} else null);

  # programs are those that the user switches on or off, and texts of shells.
  programs = sources: options: config:
    let
      inits = [
        "envExtra" "shellInit" "loginShellInit" "loginExtra" "interactiveShellInit"
        "initExtraFirst" "initExtra" "initContent" "profileExtra" "bashrcExtra"
      ];
      shell = name: { inits = pick inits (key: known (texts sources (options.${name}.${key} or { }))); };
      enabled = filter (name: isAttrs options.${name} && byUser sources (options.${name}.enable or { }) != [ ]) (attrNames options);
    in
    foldl' (a: b: a // { ${b.name} = (a.${b.name} or { }) // b.value; }) { } (
      map (name: { inherit name; value.enable = known config.${name}.enable; }) enabled
      ++ map (name: { inherit name; value = shell name; }) [ "bash" "fish" "zsh" ]
    );

  home = sources: options: config: {
    home = {
      homeDirectory = known (plain config.home.homeDirectory);
      packages = known (packages sources options.home.packages);
      sessionVariables = known (variables sources options.home.sessionVariables config.home.sessionVariables);
    };
    programs = programs sources options.programs config.programs;
  };

  network = n: {
    address = map plain (n.address or [ ]);
    addresses = map (a: { Address = a.Address or a.addressConfig.Address or null; }) (n.addresses or [ ]);
    gateway = n.gateway or [ ];
    networkConfig = { Address = n.networkConfig.Address or [ ]; Gateway = n.networkConfig.Gateway or [ ]; };
    routes = concatMap (r: if (r.Gateway or null) == null then [ ] else [ { inherit (r) Gateway; } ])
      (map (r: r // (r.routeConfig or { })) (n.routes or [ ]));
  };

  # settings returns the options that the user sets, each with the first file that does.
  # Options of the user's own are how modules of the flake speak to each other.
  settings = sources: path: set:
    concatMap
      (name:
        let
          here = path ++ [ name ];
          tried = tryEval set.${name};
          o = tried.value;
          own = any (d: contains (toString d) self) (o.declarations or [ ]);
          files = tryEval (let found = map (d: toString d.file) (byUser sources o); in deepSeq found found);
        in
        if !tried.success || !isAttrs o || substring 0 1 name == "_" then [ ]
        else if o._type or null != "option" then settings sources here o
        else if own || !files.success || files.value == [ ] then [ ]
        else [ { name = concatStringsSep "." here; file = below (head files.value); } ])
      (attrNames set);

  # below returns a file's path in the flake, or null.
  below = file:
    if contains file self
    then head (split ", via " (replaceStrings [ self ] [ "" ] (builtins.unsafeDiscardStringContext file)))
    else null;

  sourcesOfGuest = options: sourcesOf [
    (options.networking.hostName or { })
    (options.microvm.vcpu or { })
    (options.home-manager.users or { })
  ];

  homeOptions = options: user: options.home-manager.users.valueMeta.attrs.${user}.configuration.options or (throw
    "mayfly: what is set for home-manager can only be told from its defaults with nixpkgs 25.11 or newer");

  # others returns what one evaluated machine, and its first user in home-manager, set.
  others = { config, options, ... }:
    let
      sources = sourcesOfGuest options;
      users = attrNames (config.home-manager.users or { });
    in
    {
      nixos = settings sources [ ] options;
      home = if users == [ ] then [ ] else settings sources [ ] (homeOptions options (head users));
    };

  # guest returns the options of one evaluated machine.
  guest = { config, options, ... }:
    let
      sources = sourcesOfGuest options;
      users = config.users.users or { };
      # A user that is declared for files' owners only has no home directory here.
      normal = filter (name: users.${name}.isNormalUser or false)
        (unique (concatMap (d: attrNames d.value) (byUser sources (options.users.users or { }))));
      homes = config.home-manager.users or { };
    in
    {
      networking = {
        hostName = known (config.networking.hostName or null);
        interfaces = known (pick (attrNames (config.networking.interfaces or { })) (name: {
          ipv4.addresses = map (a: { inherit (a) address prefixLength; }) (config.networking.interfaces.${name}.ipv4.addresses or [ ]);
        }));
        defaultGateway = known (let g = config.networking.defaultGateway or null; in if isAttrs g then g.address else g);
      };
      systemd.network.networks = known (pick (attrNames (config.systemd.network.networks or { }))
        (name: network config.systemd.network.networks.${name}));
      microvm = {
        vcpu = known (config.microvm.vcpu or null);
        mem = known (config.microvm.mem or null);
        interfaces = known (map (i: { type = i.type or null; id = i.id or null; mac = i.mac or null; }) (config.microvm.interfaces or [ ]));
        volumes = known (map (v: {
          mountPoint = plain (v.mountPoint or null);
          image = plain (v.image or null);
          size = v.size or null;
        }) (config.microvm.volumes or [ ]));
        shares = known (map (s: {
          tag = s.tag or null;
          source = plain (s.source or null);
          mountPoint = plain (s.mountPoint or null);
          readOnly = s.readOnly or false;
        }) (config.microvm.shares or [ ]));
      };
      environment = {
        systemPackages = known (packages sources (options.environment.systemPackages or { }));
      }
      // pick [ "variables" "sessionVariables" ]
        (name: known (variables sources (options.environment.${name} or { }) (config.environment.${name} or { })))
      // pick [ "extraInit" "shellInit" "interactiveShellInit" ]
        (name: known (texts sources (options.environment.${name} or { })));
      programs = programs sources (options.programs or { }) (config.programs or { });
      users.users = pick (unique (normal ++ filter (name: users ? ${name}) (attrNames homes))) (name: known {
        home = if users.${name}.isNormalUser or false then plain (users.${name}.home or null) else null;
        # The default is bash or, for who does not log in, shadow's nologin.
        shell =
          let shell = package (users.${name}.shell or null); in
          if builtins.elem (shell.name or null) [ "bash" "bash-interactive" "shadow" ] then null else shell;
        # home-manager-path is a package that holds those of home.packages.
        packages = filter (p: (p.name or null) != "home-manager-path")
          (map (p: package p // origin sources "" p) (users.${name}.packages or [ ]));
      });
      home-manager.users = pick (attrNames homes) (name: home sources (homeOptions options name) homes.${name});
    };

  # evaluated returns what a machine's config evaluates to: none, or one.
  evaluated = name: vm:
    let elsewhere = if (vm.flake or null) == null then null else vm.flake.nixosConfigurations.${name} or null; in
    filter (c: c != null) [ (vm.evaluatedConfig or null) (vm.config or null) elsewhere ];

  machine = autostart: name: vm:
    { autostart = vm.autostart or true || builtins.elem name autostart; }
    // foldl' (_: c: { config = guest c; }) { } (first (evaluated name vm));

  first = list: if list == [ ] then [ ] else [ (head list) ];

  # The first host, by name, that has a machine of a name is the one that counts.
  vms = f: foldl' (a: b: b // a) { } (map
    (host:
      let microvm = host.config.microvm or { }; in
      builtins.mapAttrs (f (microvm.autostart or [ ])) (microvm.vms or { }))
    (attrValues (flake.nixosConfigurations or { })));
in
{
  machines.microvm.vms = vms machine;
  others = vms (_: name: vm: foldl' (_: others) { } (first (evaluated name vm)));
}
