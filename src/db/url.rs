//! A connection URL, read with an allow-list. sqlx's own parser takes defaults from `PG*` variables, password files
//! and local key paths and logs what it does not know; a URL out of a tenant's Secret must do none of that.

use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// What is wrong with a connection URL. No text repeats any part of the URL that could be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Not a URL at all.
    #[error(
        "it is not a URL of the form postgres://user:password@host:port/database ({0}); characters such as @ : / ? # % in a password are written as %40 %3A %2F %3F %23 %25"
    )]
    Syntax(&'static str),
    /// A URL of another kind.
    #[error("it must start with postgres:// or postgresql://")]
    Scheme,
    /// The host is missing.
    #[error("it names no host")]
    Host,
    /// The user is missing.
    #[error("it names no user")]
    User,
    /// A parameter that is not accepted; named only if libpq knows it.
    #[error("{0} is not accepted; the only parameters are sslmode, connect_timeout and application_name")]
    Parameter(&'static str),
    /// A parameter with an unusable value.
    #[error("the value of {0} is not valid: {1}")]
    Value(&'static str, &'static str),
}

/// The parameters that libpq knows and this operator does not accept, so that an error may name them.
const REFUSED: [&str; 16] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "passfile",
    "options",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "sslpassword",
    "target_session_attrs",
    "channel_binding",
    "gssencmode",
    "keepalives",
];

/// The options for a connection URL, with nothing taken from the environment but what the URL leaves to TLS.
/// `sslmode` is `require` unless the URL says `disable`, `verify-ca` or `verify-full`: `allow` and `prefer` would
/// permit a connection in clear text, so they are read as `require`. With a certificate authority `require` checks the
/// certificate against it, as `verify-ca` does.
pub fn parse(text: &str, ca: Option<Vec<u8>>) -> Result<PgConnectOptions, InvalidUrl> {
    let url = Url::parse(text.trim()).map_err(|e| InvalidUrl::Syntax(syntax(e)))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(InvalidUrl::Scheme);
    }
    let host = url.host_str().filter(|h| !h.is_empty()).ok_or(InvalidUrl::Host)?;
    let user = decode(url.username())?;
    if user.is_empty() {
        return Err(InvalidUrl::User);
    }
    let database = decode(url.path().trim_start_matches('/'))?;
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&decode(host)?.replace(['[', ']'], ""))
        .port(url.port().unwrap_or(5432))
        .username(&user)
        .password(&decode(url.password().unwrap_or_default())?)
        .database(if database.is_empty() { &user } else { &database })
        .ssl_mode(PgSslMode::Require)
        .application_name("jobexec-operator")
        // Behind PgBouncer in transaction mode a start-up parameter that it does not know is an error.
        .extra_float_digits(None);
    let authority = ca.is_some();
    if let Some(pem) = ca {
        options = options.ssl_root_cert_from_pem(pem);
    }
    for (name, value) in url.query_pairs() {
        options = parameter(options, &name, &value)?;
    }
    // As libpq does: whoever names an authority wants it to count.
    if authority && matches!(options.get_ssl_mode(), PgSslMode::Require) {
        options = options.ssl_mode(PgSslMode::VerifyCa);
    }
    Ok(options)
}

fn parameter(options: PgConnectOptions, name: &str, value: &str) -> Result<PgConnectOptions, InvalidUrl> {
    match name {
        "sslmode" => Ok(options.ssl_mode(match value {
            "disable" => PgSslMode::Disable,
            "allow" | "prefer" | "require" => PgSslMode::Require,
            "verify-ca" => PgSslMode::VerifyCa,
            "verify-full" => PgSslMode::VerifyFull,
            _ => return Err(InvalidUrl::Value("sslmode", "one of disable, require, verify-ca, verify-full")),
        })),
        // Accepted because CloudNativePG and others write it; the pool's own limit is what counts.
        "connect_timeout" => match value.parse::<u32>() {
            Ok(_) => Ok(options),
            Err(_) => Err(InvalidUrl::Value("connect_timeout", "a number of seconds")),
        },
        "application_name" if value.len() <= 63 => Ok(options.application_name(value)),
        "application_name" => Err(InvalidUrl::Value("application_name", "at most 63 characters")),
        other => Err(InvalidUrl::Parameter(
            REFUSED
                .into_iter()
                .find(|known| *known == other)
                .unwrap_or("a parameter unknown to the operator"),
        )),
    }
}

fn decode(text: &str) -> Result<String, InvalidUrl> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| InvalidUrl::Syntax("not UTF-8"))?;
    if text.contains('\0') {
        return Err(InvalidUrl::Syntax("a NUL character"));
    }
    Ok(text.into_owned())
}

fn syntax(error: url::ParseError) -> &'static str {
    match error {
        url::ParseError::InvalidPort => "the port is not a number from 1 to 65535",
        url::ParseError::EmptyHost => "the host is empty",
        url::ParseError::RelativeUrlWithoutBase => "no scheme",
        _ => "malformed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_full_url() {
        let o = parse(
            "postgresql://jo%40b:p%2Fw@db.example:6543/app%20db?sslmode=verify-full&connect_timeout=5",
            None,
        )
        .unwrap();
        assert_eq!((o.get_host(), o.get_port(), o.get_username()), ("db.example", 6543, "jo@b"));
        assert_eq!(o.get_database(), Some("app db"));
        assert!(matches!(o.get_ssl_mode(), PgSslMode::VerifyFull));
    }

    #[test]
    fn asks_for_tls_unless_told_otherwise() {
        for (query, expected) in
            [("", "require"), ("?sslmode=prefer", "require"), ("?sslmode=allow", "require")]
        {
            let o = parse(&format!("postgres://u:p@h/d{query}"), None).unwrap();
            assert!(matches!(o.get_ssl_mode(), PgSslMode::Require), "{query}: {expected}");
        }
        let o = parse("postgres://u:p@h/d?sslmode=disable", None).unwrap();
        assert!(matches!(o.get_ssl_mode(), PgSslMode::Disable));
    }

    #[test]
    fn an_ipv6_host_loses_its_brackets() {
        assert_eq!(parse("postgres://u@[::1]:5433/d", None).unwrap().get_host(), "::1");
    }

    #[test]
    fn refuses_and_never_repeats_a_secret() {
        for (url, part) in [
            ("", "not a URL"),
            ("hunter2", "not a URL"),
            ("postgres://", "host"),
            ("mysql://u:hunter2@h/d", "postgres://"),
            ("postgres://:hunter2@h/d", "user"),
            ("postgres://u:hunter2@h:99999/d", "port"),
            ("postgres://u:hunter2#x@h/d", "not a URL"),
            ("postgres://u:1?hunter2@h/d", "user"),
            ("postgres://u:p@h/d?hunter2=1", "unknown"),
            ("postgres://u:hunter2@h/d?sslmode=hunter2", "sslmode"),
            ("postgres://u:hunter2@h/d?sslcert=/etc/passwd", "sslcert"),
            ("postgres://u:hunter2@h/d?options=-c%20x", "options"),
            ("postgres://u:hunter2%00@h/d", "NUL"),
        ] {
            let error = parse(url, None).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
