//! Holds the structure of `src/`: its files use each other without a circle, and its rooms, which are the folders, in one direction.
//! Reads the `use` lines and the paths in the code; unit tests are left out. Every file with SQL belongs to the code that runs it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemMod, ItemUse, UseTree, Visibility};

/// The rooms from the bottom up: each uses those before it only. ARCHITECTURE.md says what each holds.
const ROOMS: [&str; 17] = [
    "boundary",
    "secrets",
    "api",
    "adapters",
    "net",
    "rules",
    "notify",
    "telemetry",
    "db",
    "metrics",
    "kubernetes",
    "sharding",
    "runtime",
    "session",
    "reconcilers",
    "http",
    "cli",
];

/// The path of a module below the crate, for example `["db", "sweep"]`.
type Module = Vec<String>;

/// What one file refers to.
#[derive(Default)]
struct Uses {
    /// Paths, each from the root of the crate.
    paths: Vec<Module>,
    /// What the module gives out under a name of its own, by that name.
    reexports: BTreeMap<String, Module>,
}

/// Reads one file.
struct Reader<'a> {
    module: Module,
    files: &'a BTreeSet<Module>,
    uses: Uses,
}

impl Reader<'_> {
    /// A path from the root of the crate; `None`: it leads out of it.
    fn absolute(&self, path: &[String]) -> Option<Module> {
        let first = path.first()?;
        let supers = path.iter().take_while(|part| *part == "super").count();
        let child = || self.files.contains(&[self.module.as_slice(), std::slice::from_ref(first)].concat());
        match first.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([self.module.as_slice(), &path[1..]].concat()),
            "super" => {
                let base = self.module.len().checked_sub(supers)?;
                Some([&self.module[..base], &path[supers..]].concat())
            }
            _ if child() => Some([self.module.as_slice(), path].concat()),
            _ => None,
        }
    }

    fn flatten(tree: &UseTree, before: &[String], all: &mut Vec<(Module, String)>) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => Self::flatten(&path.tree, &with(path.ident.to_string()), all),
            UseTree::Group(group) => group.items.iter().for_each(|tree| Self::flatten(tree, before, all)),
            UseTree::Glob(_) => all.push((before.to_vec(), "*".to_owned())),
            UseTree::Name(name) if name.ident == "self" => {
                all.push((before.to_vec(), before.last().cloned().unwrap_or_default()));
            }
            UseTree::Name(name) => all.push((with(name.ident.to_string()), name.ident.to_string())),
            UseTree::Rename(rename) => {
                all.push((with(rename.ident.to_string()), rename.rename.to_string()));
            }
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let cfg = |attribute: &&Attribute| attribute.path().is_ident("cfg");
    attributes
        .iter()
        .filter(cfg)
        .any(|attribute| attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test"))
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let mut all = Vec::new();
        Self::flatten(&item.tree, &[], &mut all);
        for (path, name) in all {
            let Some(path) = self.absolute(&path) else { continue };
            if matches!(item.vis, Visibility::Inherited) {
                self.uses.paths.push(path);
            } else {
                self.uses.reexports.insert(name, path);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1 && ["crate", "super"].contains(&parts[0].as_str()) {
            self.uses.paths.extend(self.absolute(&parts));
        }
        visit::visit_path(self, path);
    }
}

/// The file that a path leads to, through what modules give out.
fn target(files: &BTreeMap<Module, Uses>, path: &[String], depth: usize) -> Option<Module> {
    let length = (0..=path.len()).rev().find(|&length| files.contains_key(&path[..length]))?;
    let (module, rest) = path.split_at(length);
    match rest.first().and_then(|name| files[module].reexports.get(name)) {
        Some(real) if depth < 8 => target(files, &[real.as_slice(), &rest[1..]].concat(), depth + 1),
        _ => Some(module.to_vec()),
    }
}

/// Which file uses which.
fn arrows() -> BTreeMap<Module, BTreeSet<Module>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    read(&root, &root, &mut sources);
    let names: BTreeSet<Module> = sources.keys().cloned().collect();
    let files: BTreeMap<Module, Uses> = sources
        .into_iter()
        .map(|(module, file)| {
            let mut reader = Reader { module: module.clone(), files: &names, uses: Uses::default() };
            reader.visit_file(&file);
            (module, reader.uses)
        })
        .collect();
    let arrows = |module: &Module, uses: &Uses| {
        let targets = uses.paths.iter().filter_map(|path| target(&files, path, 0));
        targets.filter(|target| target != module && !target.is_empty()).collect()
    };
    files.iter().map(|(module, uses)| (module.clone(), arrows(module, uses))).collect()
}

fn read(root: &Path, folder: &Path, sources: &mut BTreeMap<Module, File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).unwrap().with_extension("");
            let mut module: Module =
                relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if module == ["main"] {
                continue;
            }
            if module.last().is_some_and(|name| ["mod", "lib"].contains(&name.as_str())) {
                module.pop();
            }
            // Unit tests in a file of their own.
            if module.last().is_some_and(|name| name == "tests") {
                continue;
            }
            let file = syn::parse_file(&fs::read_to_string(&path).unwrap());
            sources.insert(module, file.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        }
    }
}

fn text(module: &Module) -> String {
    module.join("::")
}

#[test]
fn files_use_each_other_without_a_circle() {
    let mut arrows = arrows();
    assert!(arrows.len() > 200, "not all files were read: {}", arrows.len());
    assert!(arrows.values().map(BTreeSet::len).sum::<usize>() > 700, "not all arrows were found");
    // What uses nothing is in no circle, and what nothing uses is not either.
    loop {
        let used: BTreeSet<Module> = arrows.values().flatten().cloned().collect();
        let left: BTreeMap<Module, BTreeSet<Module>> = arrows
            .iter()
            .filter(|(module, uses)| !uses.is_empty() && used.contains(*module))
            .map(|(module, uses)| (module.clone(), uses.clone()))
            .collect();
        let there: BTreeSet<Module> = left.keys().cloned().collect();
        let left: BTreeMap<Module, BTreeSet<Module>> = left
            .into_iter()
            .map(|(module, uses)| (module, uses.intersection(&there).cloned().collect()))
            .collect();
        if left == arrows {
            break;
        }
        arrows = left;
    }
    let circles: Vec<String> = arrows
        .iter()
        .map(|(module, uses)| {
            let uses: Vec<String> = uses.iter().map(text).collect();
            format!("{} -> {}", text(module), uses.join(", "))
        })
        .collect();
    assert!(
        circles.is_empty(),
        "files in circles, and which of the others each uses:\n{}",
        circles.join("\n")
    );
}

#[test]
fn rooms_use_those_below_them_only() {
    let rank = |module: &Module| {
        let room = module.first()?;
        let rank = ROOMS.iter().position(|known| known == room);
        Some(rank.unwrap_or_else(|| panic!("the room {room} has no place in the order")))
    };
    let mut up = Vec::new();
    for (module, uses) in arrows() {
        for used in uses {
            if rank(&module) < rank(&used) {
                up.push(format!("{} -> {}", text(&module), text(&used)));
            }
        }
    }
    assert!(up.is_empty(), "arrows that run up:\n{}", up.join("\n"));
}

/// All files below `folder` with one of the extensions.
fn files(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extensions, found);
        } else if path.extension().is_some_and(|own| extensions.iter().any(|one| own == *one)) {
            found.push(path);
        }
    }
}

/// The files that the code includes.
fn included(source: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(source).unwrap();
    let calls = text.split("include_str!(").skip(1);
    let names = calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next());
    names.map(|name| source.with_file_name(name)).collect()
}

#[test]
fn every_sql_file_is_run_and_says_first_what_it_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut statements, mut sources) = (Vec::new(), Vec::new());
    files(&root, &["sql"], &mut statements);
    files(&root, &["rs"], &mut sources);
    assert!(!statements.is_empty(), "no file was found");
    let used: BTreeSet<PathBuf> = sources.iter().flat_map(|source| included(source)).collect();
    let unused: Vec<&PathBuf> = statements.iter().filter(|file| !used.contains(*file)).collect();
    assert!(unused.is_empty(), "no code includes these: {unused:#?}");
    let silent: Vec<&PathBuf> =
        statements.iter().filter(|file| !fs::read_to_string(file).unwrap().starts_with("-- ")).collect();
    assert!(
        silent.is_empty(),
        "the first line of these is not a comment that says what they do: {silent:#?}"
    );
}
