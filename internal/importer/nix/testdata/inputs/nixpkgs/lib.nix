# The module system, without checks: what is not declared is ignored.
let
  inherit (builtins)
    attrNames concatLists concatMap concatStringsSep elem filter foldl' head isAttrs isFunction
    isList isPath length listToAttrs map mapAttrs;

  genAttrs = names: f: listToAttrs (map (name: { inherit name; value = f name; }) names);
  unique = foldl' (all: x: if elem x all then all else all ++ [ x ]) [ ];
  isOption = o: isAttrs o && (o._type or "") == "option";

  # collect returns modules with their files, imports first, those that are paths once.
  collect = args: modules:
    let
      one = seen: file: module:
        if isPath module && elem module seen then { inherit seen; all = [ ]; } else
        let
          loaded = if isPath module then import module else module;
          set = if isFunction loaded then loaded args else loaded;
          at = if isPath module then toString module else set._file or file;
          inner = many (if isPath module then seen ++ [ module ] else seen) at (set.imports or [ ]);
          structured = set ? config || set ? options;
          this = {
            file = at;
            config = if structured then set.config or { } else removeAttrs set [ "_file" "imports" ];
            options = set.options or { };
          };
        in
        { inherit (inner) seen; all = inner.all ++ [ this ]; };
      many = seen: file: foldl' (a: m: let b = one a.seen file m; in { inherit (b) seen; all = a.all ++ b.all; }) { inherit seen; all = [ ]; };
    in
    (many [ ] "<unknown-file>" modules).all;

  # discharge takes mkIf and the like away from a definition: there may be any number.
  discharge = d:
    let kind = if isAttrs d.value then d.value._type or "" else ""; in
    if kind == "if" then (if d.value.condition then discharge (d // { value = d.value.content; }) else [ ])
    else if kind == "merge" then concatMap (v: discharge (d // { value = v; })) d.value.contents
    else if kind == "override" then discharge (d // { value = d.value.content; inherit (d.value) priority; })
    else [ d ];

  # below returns the definitions of an attribute. Conditions go down with them, and are
  # not looked at: they may depend on other attributes.
  below = defs: name: concatMap (select name) defs;
  select = name: d:
    let
      kind = if isAttrs d.value then d.value._type or "" else "";
      inner = value: select name (d // { inherit value; });
    in
    if kind == "merge" then concatMap inner d.value.contents
    else if kind == "if" || kind == "override" then map (x: x // { value = d.value // { content = x.value; }; }) (inner d.value.content)
    else if d.value ? ${name} then [ (d // { value = d.value.${name}; }) ]
    else [ ];

  strongest = defs:
    let best = foldl' (a: d: if d.priority < a then d.priority else a) 9999 defs; in filter (d: d.priority == best) defs;

  evalOption = decl: defs:
    let
      found = strongest (concatMap discharge defs);
      merged = decl.type.merge found;
    in
    {
      _type = "option";
      inherit (decl) declarations;
      definitionsWithLocations = map (d: { inherit (d) file value; }) found;
      value = if found == [ ] && decl ? default then decl.default else merged.value;
      valueMeta = merged.meta or { };
    };

  # declared merges what modules declare.
  declared = modules:
    let
      merge = a: b: a // mapAttrs (n: v: if a ? ${n} && !isOption v then merge a.${n} v else v) b;
      located = file: o: if isOption o then o // { declarations = [ file ]; } else mapAttrs (_: located file) o;
    in
    foldl' merge { } (map (m: located m.file m.options) modules);

  evalModules = { modules, specialArgs ? { } }:
    let
      args = { inherit lib config options; } // specialArgs;
      all = collect args modules;
      eval = decls: defs: mapAttrs (n: d: if isOption d then evalOption d (below defs n) else eval d (below defs n)) decls;
      options = eval (declared all) (map (m: { inherit (m) file; value = m.config; priority = 100; }) all);
      values = o: if isOption o then o.value else mapAttrs (_: values) o;
      config = values options;
    in
    { inherit config options; };

  types = rec {
    anything = { merge = defs: { value = (head defs).value; }; };
    str = anything;
    bool = anything;
    int = anything;
    listOf = _: { merge = defs: { value = concatLists (map (d: d.value) defs); }; };
    lines = { merge = defs: { value = concatStringsSep "\n" (map (d: d.value) defs); }; };
    attrsOf = type: {
      merge = defs:
        let
          names = unique (concatMap (d: attrNames d.value) defs);
          each = genAttrs (filter (n: concatMap discharge (below defs n) != [ ]) names)
            (n: type.merge (strongest (concatMap discharge (below defs n))));
        in
        {
          value = mapAttrs (_: e: e.value) each;
          meta.attrs = mapAttrs (_: e: e.meta or { }) each;
        };
    };
    # A plain submodule's values are no modules: they may set an option `config`.
    submodule = module: submoduleWith { modules = [ module ]; shorthand = true; };
    submoduleWith = { modules, specialArgs ? { }, shorthand ? false }: {
      merge = defs:
        let
          evaluated = evalModules {
            inherit specialArgs;
            modules = modules ++ map (d: { _file = d.file; imports = [ (if shorthand then { config = d.value; } else d.value) ]; }) defs;
          };
        in
        { value = evaluated.config; meta.configuration = evaluated; };
    };
  };

  lib = {
    inherit evalModules genAttrs types;
    mkOption = { type ? types.anything, ... }@o: o // { _type = "option"; inherit type; };
    mkIf = condition: content: { _type = "if"; inherit condition content; };
    mkMerge = contents: { _type = "merge"; inherit contents; };
    mkOverride = priority: content: { _type = "override"; inherit priority content; };
    mkDefault = lib.mkOverride 1000;
    mkForce = lib.mkOverride 50;
    optionals = condition: list: if condition then list else [ ];
    nixosSystem = { modules, specialArgs ? { }, pkgs ? import ./. { }, ... }: evalModules {
      modules = [ ./nixos/base.nix ] ++ modules;
      specialArgs = { inherit pkgs; } // specialArgs;
    };
  };
in
lib
