//! Keeps it so that `Debug` shows no secret: reads the sources for types that derive it and have a field that by its name may
//! be one, in a type that would show it.

use std::fs;
use std::path::{Path, PathBuf};

/// Words of a field's name that tell of a secret.
const WORDS: [&str; 15] = [
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

/// Types that show what they hold.
const SHOWS: [&str; 6] = ["String", "str", "Vec<u8>", "Bytes", "Url", "[u8"];

/// Types that show a password whatever the field is called.
const ALWAYS: [&str; 2] = ["PgConnectOptions", "TokenReviewSpec"];

/// Fields that are none in spite of their name, as `file: Type.field`, and why.
const NO_SECRETS: [(&str, &str); 11] = [
    ("api/notifications.rs: Webhook.url", "stands in a spec, which whoever reads the object sees"),
    ("api/notifications.rs: SecretKey.key", "the name of a key within a Secret"),
    ("api/store.rs: SecretKeyRef.key", "the name of a key within a Secret"),
    ("cli/operator.rs: Serve.token_audience", "for whom tokens are made"),
    ("cli/ping.rs: Args.api_url", "an address without a login, which is refused in it"),
    ("cli/remote/options.rs: Options.api_url", "an address without a login, which is refused in it"),
    ("controllers/events.rs: News.key", "tells Events apart"),
    ("policy/rule.rs: Rule.key", "the id or type of a job"),
    ("policy/wish.rs: Wish.key", "the id of an execution"),
    ("db/cancel.rs: Request.key", "the id of an execution"),
    ("db/schema/trust.rs: Reading.login", "the name of a role"),
];

/// A field: where it is, and its type.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    place: String,
    of_type: String,
}

#[test]
fn what_derives_debug_holds_no_secret_that_it_would_show() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in files(&root).into_iter().filter(|file| !file.ends_with("secrets/held.rs")) {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        found.extend(shown(&name, &fs::read_to_string(&file).unwrap()));
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
fn a_secret_in_plain_text_is_found() {
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
    let places: Vec<String> = shown("a.rs", source).into_iter().map(|field| field.place).collect();
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

/// Every Rust file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The fields that `Debug` would show although they may be secrets.
fn shown(file: &str, source: &str) -> Vec<Field> {
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
        // What stands between is attributes and a visibility: else it is the head of another type.
        if rest[..kind].contains("derive(") || rest[..kind].contains('}') {
            continue;
        }
        let name: String = head.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        for (field, of_type) in fields(body(head)) {
            let words: Vec<&str> = field.split('_').collect();
            let secret = words.iter().any(|word| WORDS.contains(word));
            let parts: Vec<&str> = of_type.split(['<', '>', ' ', ',', '&', '(', ')', ';', ':']).collect();
            let holds = SHOWS.iter().any(|shows| {
                parts.contains(shows) || (shows.contains(['<', '[']) && of_type.contains(shows))
            });
            if secret && holds || ALWAYS.iter().any(|shows| parts.contains(shows)) {
                found.push(Field { place: format!("{file}: {name}.{field}"), of_type });
            }
        }
    }
    found
}

/// What stands between the first brace and the one that closes it; nothing, where a semicolon comes before.
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

/// `name: Type` of each field, those of an enum's variants included.
fn fields(body: &str) -> Vec<(String, String)> {
    let pieces = body.split([',', '{', '}', '\n']);
    let pairs = pieces.filter_map(|piece| piece.split_once(": "));
    let named = pairs.map(|(before, of_type)| {
        let name = before.split_whitespace().last().unwrap_or_default();
        (name.trim_start_matches("r#").to_owned(), of_type.trim().to_owned())
    });
    named.filter(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_')).collect()
}
