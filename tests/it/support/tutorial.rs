//! The tutorials in `docs/tutorials`, followed as a reader does: their SQL, YAML and commands, in the order of the page.

use std::path::Path;
use std::process::Command;

use super::World;
use super::helm::Ran;

/// A tutorial, for the roles and the namespace of a world. When dropped, each of its sections must have been followed.
pub(crate) struct Tutorial<'w> {
    world: &'w World,
    owner: &'w str,
    /// The sections that have something to do, by their titles.
    sections: Vec<(String, Vec<Block>)>,
    folder: tempfile::TempDir,
}

/// What a page has the reader do.
enum Block {
    /// Commands for a shell, in the order of their lines.
    Commands(String),
    /// Statements that the owner of the tables runs.
    Sql(String),
    /// A manifest, to be saved in a file.
    Yaml(String),
    /// What is then seen, among other lines.
    Text(String),
}

impl<'w> Tutorial<'w> {
    /// Reads the page of this name. `owner` is the URL of the owner of the tables.
    pub(crate) fn of(name: &str, world: &'w World, owner: &'w str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/tutorials/{name}.md"));
        let page = std::fs::read_to_string(path).unwrap();
        let sections = page.split("\n## ").skip(1).map(|section| {
            let (title, text) = section.split_once('\n').unwrap();
            (title.to_owned(), blocks(text))
        });
        let sections = sections.filter(|(_, blocks)| !blocks.is_empty()).collect();
        Self { world, owner, sections, folder: tempfile::tempdir().unwrap() }
    }

    /// The first manifest of the page.
    pub(crate) fn manifest(&self) -> serde_json::Value {
        let mut blocks = self.sections.iter().flat_map(|(_, blocks)| blocks);
        let yaml =
            blocks.find_map(|block| if let Block::Yaml(text) = block { Some(text) } else { None }).unwrap();
        assert!(yaml.lines().count() <= 10, "a store takes ten lines:\n{yaml}");
        serde_saphyr::from_str(yaml).unwrap()
    }

    /// Does what the next section says, which must have this title, and returns what its commands print.
    pub(crate) fn follow(&mut self, title: &str) -> String {
        let (next, blocks) = self.sections.remove(0);
        assert_eq!(next, title, "sections are followed in their order");
        let mut printed = String::new();
        for block in blocks {
            match block {
                Block::Commands(text) => printed += &self.shell(&text),
                Block::Sql(text) => {
                    std::fs::write(self.folder.path().join("page.sql"), self.named(&text)).unwrap();
                    printed += &self.shell("psql -X -v ON_ERROR_STOP=1 -f page.sql \"$OWNER_URL\"");
                }
                Block::Yaml(text) => {
                    let file =
                        if text.contains("kind: ExecutionPolicy") { "policy.yaml" } else { "store.yaml" };
                    std::fs::write(self.folder.path().join(file), self.named(&text)).unwrap();
                }
                Block::Text(text) => {
                    for line in text.lines() {
                        let seen = printed.lines().any(|printed| spaced(printed) == spaced(line));
                        assert!(seen, "{title}: no line {line:?} in\n{printed}");
                    }
                }
            }
        }
        printed
    }

    /// The text with the names of the world instead of those of the page.
    fn named(&self, text: &str) -> String {
        let World { namespace, role, .. } = self.world;
        text.replace("-n jobexec-system", &format!("-n {namespace}"))
            .replace("namespace: jobexec-system", &format!("namespace: {namespace}"))
            .replace("--role jobexec", &format!("--role {role}"))
            .replace(" TO jobexec;", &format!(" TO {role};"))
    }

    fn shell(&self, commands: &str) -> String {
        let programs = Path::new(env!("CARGO_BIN_EXE_jobexec")).parent().unwrap();
        let mut path = std::ffi::OsString::from(programs);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut bash = Command::new("bash");
        bash.args(["-euc", &format!("exec 2>&1\n{}", self.named(commands))])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("OWNER_URL", self.owner)
            .env("ADMIN_URL", self.world.superuser())
            .env("OPERATOR_URL", self.world.url("right/password"))
            .env("KUBECONFIG", self.world.admin_kubeconfig())
            .env("KUBECACHEDIR", self.folder.path().join("kubectl"))
            .env_remove("DATABASE_URL");
        Ran::of(&mut bash, "").done()
    }
}

impl Drop for Tutorial<'_> {
    fn drop(&mut self) {
        let left: Vec<&String> = self.sections.iter().map(|(title, _)| title).collect();
        assert!(left.is_empty() || std::thread::panicking(), "nobody followed {left:?}");
    }
}

/// A line with single spaces, as columns are as wide as their widest value.
fn spaced(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a section has the reader do: its fenced blocks, and its indented ones, which are commands.
fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let mut taken = String::new();
        if let Some(language) = line.strip_prefix("```") {
            taken.extend(lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]));
            found.push(match language {
                "sql" => Block::Sql(taken),
                "yaml" => Block::Yaml(taken),
                "text" => Block::Text(taken),
                _ => panic!("there is no way to follow {language:?}"),
            });
        } else if let Some(first) = line.strip_prefix("    ") {
            taken.extend([first, "\n"]);
            while let Some(more) = lines.next_if(|line| line.starts_with("    ")) {
                taken.extend([&more[4..], "\n"]);
            }
            found.push(Block::Commands(taken));
        }
    }
    found
}
