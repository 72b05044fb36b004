//! Checks that `Debug` prints no secret: reads the sources and finds types that derive it and have a field whose name suggests
//! a secret and whose type would print it.

use std::fs;
use std::path::{Path, PathBuf};

/// Words in a field's name that suggest a secret.
const SECRET_WORDS: [&str; 15] = [
    "password",
    "passwd",
    "token",
    "secret",
    "credential",
    "credentials",
    "login",
    "uri",
    "url",
    "pem",
    "key",
    "dsn",
    "cookie",
    "authorization",
    "bearer",
];

/// Types that print their content.
const PRINTS_CONTENT: [&str; 6] = ["String", "str", "Vec<u8>", "Bytes", "Url", "[u8"];

/// Types that print a password, whatever the name of the field.
const PRINTS_PASSWORD: [&str; 2] = ["PgConnectOptions", "TokenReviewSpec"];

/// Fields that are not secret in spite of their names, as `file: Type.field`, and why.
const NO_SECRETS: [(&str, &str); 11] = [
    ("api/notifications.rs: Webhook.url", "part of a spec, which every reader of the object sees"),
    ("api/notifications.rs: SecretKey.key", "the name of a key within a Secret"),
    ("api/store.rs: SecretKeyRef.key", "the name of a key within a Secret"),
    ("cli/operator.rs: ServerArgs.token_audience", "the audience of tokens"),
    ("cli/ping.rs: Args.api_url", "a URL without a login, which its parser rejects"),
    ("cli/remote/options.rs: Options.api_url", "a URL without a login, which its parser rejects"),
    ("kubernetes/events.rs: News.key", "tells Events apart"),
    ("rules/rule.rs: Rule.key", "the id or type of a job"),
    ("rules/input.rs: ExecutionOverride.key", "the id of an execution"),
    ("db/cancel.rs: Request.key", "the id of an execution"),
    ("db/schema/trust.rs: Reading.login", "the name of a role"),
];

/// A field: its location and type.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    place: String,
    of_type: String,
}

#[test]
fn debug_output_contains_no_secrets() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in files(&root).into_iter().filter(|file| !file.ends_with("secrets/debug_check.rs")) {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        found.extend(printed_fields(&name, &fs::read_to_string(&file).unwrap()));
    }
    let gone: Vec<_> =
        NO_SECRETS.iter().filter(|(place, _)| found.iter().all(|field| field.place != *place)).collect();
    assert!(gone.is_empty(), "these are not there any more: {gone:#?}");
    found.retain(|field| !NO_SECRETS.iter().any(|(place, _)| *place == field.place));
    assert!(
        found.is_empty(),
        "these would be shown by {{:?}}: hold them in crate::secrets::SecretString, or say in NO_SECRETS why they are none: {found:#?}"
    );
}

#[test]
fn check_finds_plain_text_secrets() {
    let source = "
        #[derive(Clone, Debug)]
        #[serde(rename_all = \"camelCase\")]
        pub struct Server {
            /// The password.
            pub(super) password: String,
            pub api_token: Option<String>,
            keys: usize,
            monkey: String,
            pub other: SecretString,
            pub url: SecretString,
            options: sqlx::postgres::PgConnectOptions,
        }
        #[derive(Clone)]
        struct Quiet { password: String }
        #[derive(
            Debug,
        )]
        struct Inline { a: u8, uri: Box<str> }
        #[derive(Debug)]
        enum Kind {
            Named { pem: Vec<u8> },
        }
    ";
    let places: Vec<String> = printed_fields("a.rs", source).into_iter().map(|field| field.place).collect();
    assert_eq!(
        places,
        [
            "a.rs: Server.password",
            "a.rs: Server.api_token",
            "a.rs: Server.options",
            "a.rs: Inline.uri",
            "a.rs: Kind.pem"
        ]
    );
}

/// Returns every Rust file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Returns the fields that `Debug` would print although they may be secret.
fn printed_fields(file: &str, source: &str) -> Vec<Field> {
    let code: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("derive(") {
        let Some((derived, rest)) = code[at..].split_once(")]") else { continue };
        if !derived.split(['(', ',']).any(|word| word.trim() == "Debug") {
            continue;
        }
        let Some((kind, head)) = ["struct ", "enum "]
            .iter()
            .filter_map(|kind| rest.split_once(kind).map(|(before, head)| (before.len(), head)))
            .min_by_key(|(before, _)| *before)
        else {
            continue;
        };
        // Only attributes and a visibility may stand between: otherwise this is the head of another type.
        if rest[..kind].contains("derive(") || rest[..kind].contains('}') {
            continue;
        }
        let name: String = head.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        for (field, of_type) in fields(body(head)) {
            let words: Vec<&str> = field.split('_').collect();
            let secret = words.iter().any(|word| SECRET_WORDS.contains(word));
            let parts: Vec<&str> = of_type.split(['<', '>', ' ', ',', '&', '(', ')', ';', ':']).collect();
            let holds = PRINTS_CONTENT.iter().any(|shows| {
                parts.contains(shows) || (shows.contains(['<', '[']) && of_type.contains(shows))
            });
            if secret && holds || PRINTS_PASSWORD.iter().any(|shows| parts.contains(shows)) {
                found.push(Field { place: format!("{file}: {name}.{field}"), of_type });
            }
        }
    }
    found
}

/// Returns the text between the first brace and its closing brace; nothing if a semicolon comes first.
fn body(head: &str) -> &str {
    let Some(open) = head.find(['{', ';']).filter(|at| head[*at..].starts_with('{')) else { return "" };
    let mut depth = 0_usize;
    for (at, c) in head[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &head[open + 1..open + at];
        }
    }
    ""
}

/// Returns `name: Type` of each field, including those of an enum's variants.
fn fields(body: &str) -> Vec<(String, String)> {
    let pieces = body.split([',', '{', '}', '\n']);
    let pairs = pieces.filter_map(|piece| piece.split_once(": "));
    let named = pairs.map(|(before, of_type)| {
        let name = before.split_whitespace().last().unwrap_or_default();
        (name.trim_start_matches("r#").to_owned(), of_type.trim().to_owned())
    });
    named.filter(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_')).collect()
}
