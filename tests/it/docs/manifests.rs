//! Every manifest in the repository and on its pages, as the API server reads it with strict validation.

use std::path::{Path, PathBuf};

use crate::support::helm::{CHART, Helm, Ran};
use crate::support::kubectl::Kubectl;
use crate::support::{World, foreign};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The folders that contain manifests. Those of the chart are templates, with tests of their own.
const FOLDERS: [&str; 3] = ["crds", "demo", "manifests"];

/// The folders and files with pages.
const PAGES: [&str; 7] =
    ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md", "charts", "docs"];

/// A YAML text that is not a whole manifest.
#[derive(Clone, Copy)]
enum Part {
    /// The rest of a manifest that begins so.
    Of(&'static str),
    /// Values of the chart.
    Values,
    /// A file for kustomize, in this folder.
    Kustomization(&'static str),
    /// Not for Kubernetes.
    Foreign,
}

/// The texts that are not whole manifests: the file, the first line, and how they are completed or why they are left out.
const PARTS: [(&str, &str, Part); 9] = [
    ("crds/kustomization.yaml", "apiVersion: kustomize", Part::Kustomization("crds")),
    // The configuration of Prometheus.
    ("docs/alerting.md", "rule_files:", Part::Foreign),
    ("docs/install.md", "extraVolumes:", Part::Values),
    ("docs/install.md", "egress:", Part::Values),
    ("docs/notifications.md", "    templates:", Part::Of(NOTIFICATIONS)),
    // Rules of Prometheus, which promtool checks in `alerting::rules` and `alerting::state_metrics`.
    ("manifests/alerts/jobexec.rules.yaml", "groups:", Part::Foreign),
    ("manifests/kube-state-metrics/jobexec.rules.yaml", "groups:", Part::Foreign),
    // The configuration of kube-state-metrics, which `alerting::state_metrics` compares with the schemas.
    ("manifests/kube-state-metrics/config.yaml", "kind: CustomResourceStateMetrics", Part::Foreign),
    (
        "manifests/install/kustomization.yaml",
        "apiVersion: kustomize",
        Part::Kustomization("manifests/install"),
    ),
];

const NOTIFICATIONS: &str = "apiVersion: jobexec.dev/v1alpha1
kind: ExecutionStore
metadata: {name: jobs}
spec:
  connection: {secretRef: {name: db}}
  notifications:
    channels: [{name: ops, webhook: {url: 'https://ops.example.org'}}]
";

/// A YAML text, and where it is.
struct Source {
    file: String,
    /// The number of its first line.
    line: usize,
    text: String,
}

impl Source {
    /// The first line that says something.
    fn begin(&self) -> &str {
        self.text.lines().find(|line| !line.starts_with('#') && *line != "---").unwrap_or_default()
    }

    /// Reports whether an entry of [`PARTS`] is about it.
    fn is(&self, (file, begin, _): &(&str, &str, Part)) -> bool {
        self.file == *file && self.begin().starts_with(begin)
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The files with this extension in a folder and its folders, or the file itself.
fn files(path: &Path, extension: &str) -> Vec<PathBuf> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        return entries.flat_map(|path| files(&path, extension)).collect();
    }
    path.extension().filter(|e| *e == extension).map(|_| path.to_owned()).into_iter().collect()
}

/// The contents of all files with this extension in these folders.
fn texts(folders: &[&str], extension: &str) -> Vec<(String, String)> {
    let read = |path: PathBuf| {
        let name = path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    folders.iter().flat_map(|folder| files(&Path::new(ROOT).join(folder), extension)).map(read).collect()
}

/// The YAML blocks of a page. A manifest that is not in such a block would not be found.
fn blocks(file: &str, page: &str) -> Vec<Source> {
    let (mut found, mut language): (Vec<Source>, Option<&str>) = (Vec::new(), None);
    for (number, line) in (1..).zip(page.lines()) {
        match (line.trim_start().strip_prefix("```"), language) {
            (Some(begins), None) => {
                language = Some(begins);
                if begins == "yaml" {
                    found.push(Source { file: file.to_owned(), line: number + 1, text: String::new() });
                }
            }
            (Some(_), Some(_)) => language = None,
            (None, Some("yaml")) => found.last_mut().unwrap().text.extend([line, "\n"]),
            _ => assert!(!line.contains("apiVersion:"), "{file}:{number}: put it into a block of yaml"),
        }
    }
    found
}

/// All YAML texts, except for the chart's.
fn sources() -> Vec<Source> {
    let of_file = |(file, text)| Source { file, line: 1, text };
    let mut all: Vec<Source> = texts(&FOLDERS, "yaml").into_iter().map(of_file).collect();
    all.extend(texts(&PAGES, "md").iter().flat_map(|(file, page)| blocks(file, page)));
    all
}

/// The manifest that the notes of an installation have the user apply.
fn of_notes(helm: &Helm, namespace: &str) -> Ran {
    let mut ran = helm.run(&["install", "release", CHART, "--namespace", namespace, "--dry-run=client"]);
    if ran.well {
        let (_, begin) = ran.out.split_once("<<EOF\n").unwrap();
        ran = Ran { out: begin.split_once("\nEOF").unwrap().0.to_owned(), ..ran };
    }
    ran
}

/// Completes a text to a manifest. `None`: it is not for Kubernetes.
fn complete(source: &Source, world: &World, helm: &Helm, kubectl: &Kubectl) -> Option<Ran> {
    let text = |text: String| Some(Ran { well: true, out: text, err: String::new() });
    match PARTS.iter().find(|part| source.is(part)).map(|part| part.2) {
        None => text(source.text.clone()),
        Some(Part::Foreign) => None,
        Some(Part::Of(begin)) => text(begin.to_owned() + &source.text),
        Some(Part::Values) => {
            let values = world.file("values.yaml", &source.text);
            let namespace = &world.namespace;
            Some(helm.run(&["template", "release", CHART, "--namespace", namespace, "--values", &values]))
        }
        Some(Part::Kustomization(folder)) => {
            Some(kubectl.run(&["kustomize", &format!("{ROOT}/{folder}")], ""))
        }
    }
}

#[tokio::test]
async fn strict_validation_accepts_every_manifest() {
    let world = World::bare("manifests").await;
    foreign::define(&world.client).await;
    let admin = world.admin_kubeconfig();
    let (kubectl, helm) = (Kubectl::new(&admin), Helm::new(&admin).await);
    let sources = sources();
    for part in &PARTS {
        assert!(sources.iter().any(|source| source.is(part)), "{}: no text begins with {:?}", part.0, part.1);
    }
    let completed = |source: &Source| Some((source.to_string(), complete(source, &world, &helm, &kubectl)?));
    let mut manifests: Vec<_> = sources.iter().filter_map(completed).collect();
    manifests.push(("the notes of the chart".to_owned(), of_notes(&helm, &world.namespace)));
    assert!(manifests.len() > 30, "{}", manifests.len());

    let mut refused = Vec::new();
    for (place, mut ran) in manifests {
        if ran.well {
            let namespace = format!("namespace: {}", world.namespace);
            let text = ran.out.replace("namespace: jobexec-system", &namespace);
            ran = kubectl.dry_run(Some(&world.namespace), &text);
        }
        if !ran.well || !ran.err.is_empty() {
            refused.push(format!("{place}: {}", ran.err));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// The same validation finds what a typing error leaves.
#[tokio::test]
async fn strict_validation_refuses_what_nobody_reads() {
    let world = World::bare("manifests-not").await;
    let kubectl = Kubectl::new(&world.admin_kubeconfig());
    let sample = include_str!("../../../manifests/samples/notifications.yaml");
    for (right, wrong, why) in [
        ("groupWait: 10s", "groupWait: 10s\n    groupwait: 10s", "groupwait"),
        ("groupWait: 10s", "groupWait: [10s]", "groupWait"),
        // In YAML 1.1, which kubectl reads, the key is a boolean.
        ("events: [Failed, Breaker, Recovered]", "on: [Failed, Breaker, Recovered]", ".true"),
    ] {
        let text = sample.replace(right, wrong);
        assert_ne!(text, sample, "{right} is not there any more");
        let refusal = kubectl.dry_run(Some(&world.namespace), &text).refused();
        assert!(refusal.contains(why), "{wrong}: {refusal}");
    }
    kubectl.dry_run(Some(&world.namespace), sample).done();
}

/// The keys that are no text in YAML 1.1, which kubectl and Helm read, such as `on:`. Where any key is allowed, as in
/// labels and in parts of manifests, validation does not find them.
fn keys_that_are_no_text(text: &str) -> Vec<String> {
    let words = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"];
    let in_line = |line: &str| -> Vec<String> {
        let ends = line
            .match_indices(':')
            .filter(|(at, _)| line[at + 1..].chars().next().is_none_or(char::is_whitespace));
        let keys = ends.filter_map(|(at, _)| {
            let before = line[..at].trim_end();
            let begin = before.rfind([' ', '{', ',', '[']).map_or(0, |at| at + 1);
            let alone = before[..begin].trim_end();
            let is_key = alone.is_empty() || alone.ends_with(['-', '{', ',', '[', '?']);
            let key = before[begin..].to_lowercase();
            (is_key && words.contains(&key.as_str())).then_some(key)
        });
        keys.collect()
    };
    let mut prose = None;
    let no_prose = |line: &&str| {
        let indentation = line.len() - line.trim_start().len();
        if line.is_empty() || prose.is_some_and(|of| indentation > of) {
            return false;
        }
        let begins = [" |", " >", " |-", " >-"].iter().any(|begin| line.ends_with(begin));
        prose = begins.then_some(indentation);
        !line.trim_start().starts_with('#')
    };
    text.lines().filter(no_prose).flat_map(in_line).collect()
}

#[test]
fn every_key_is_text() {
    let wrong = "on: [push]\n  - off: 1\nlabels: {a: b, Yes: c, no : d}\n# on: no\nt: |\n  a\n\n  no: prose\n'on': x\nrun: turn it on: now\nonly: 1";
    assert_eq!(keys_that_are_no_text(wrong), ["on", "off", "yes", "no"]);
    let charts = texts(&["charts"], "yaml").into_iter().chain(texts(&["charts"], "txt"));
    let templates = charts.map(|(file, text)| Source { file, line: 1, text });
    for source in sources().into_iter().chain(templates) {
        let found = keys_that_are_no_text(&source.text);
        assert!(found.is_empty(), "{source}: put {found:?} into quotes");
    }
}
