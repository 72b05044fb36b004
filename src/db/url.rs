//! Parses a connection URL with an allow-list. sqlx's own parser takes defaults from `PG*` variables, password files and local key
//! paths, and logs what it does not know; with a URL from a tenant's Secret, none of that may happen.

use std::fmt;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::timeouts::ACQUIRE_TIMEOUT;
use crate::net::address::is_name;

/// The longest `connect_timeout`: a store that waits for it holds up nothing but its own deadlines.
const LONGEST: Duration = Duration::from_secs(30);

/// An invalid connection URL. No text repeats any part of the URL that could be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// It is not a URL.
    #[error(
        "it is not a URL of the form postgres://user:password@host:port/database ({0}); characters such as @ : / ? # % in a password are written as %40 %3A %2F %3F %23 %25"
    )]
    Syntax(&'static str),
    /// It is a URL of another kind.
    #[error("it must start with postgres:// or postgresql://")]
    Scheme,
    /// The host is missing.
    #[error("it names no host")]
    Host,
    /// The host is neither a name nor an address, such as the path of a Unix socket.
    #[error("its host is neither a name nor an IP address; the path of a Unix socket is not accepted")]
    NoHostName,
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

/// A login to a server, with its options.
#[derive(Clone)]
pub struct Login {
    /// The options. Only the relay uses them to connect ([`super::relay`]).
    pub options: PgConnectOptions,
    /// The authorities that may sign the server's certificate, in PEM form, in place of the system's authorities.
    pub(super) ca: Option<Vec<u8>>,
    /// The maximum time until a connection is open, login included.
    pub(super) connect_timeout: Duration,
    /// Equal for equal logins, and only for those. It reveals nothing about them.
    pub key: Key,
}

impl fmt::Debug for Login {
    /// Omits the options, whose own `Debug` shows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

impl From<PgConnectOptions> for Login {
    /// Creates a login without an authority of its own, for a pool that nobody shares.
    fn from(options: PgConnectOptions) -> Self {
        Self { options, ca: None, connect_timeout: ACQUIRE_TIMEOUT, key: Key([0; 32]) }
    }
}

/// The identity of a login: see [`Login::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// Returns the login of a connection URL; `ca` is the certificate authority in PEM form.
pub fn login(text: &str, ca: Option<Vec<u8>>) -> Result<Login, InvalidUrl> {
    let url = read(text)?;
    let authority = ca.clone().unwrap_or_default();
    let options = options(&url, ca.clone())?;
    let connect_timeout = connect_timeout(&url)?;
    // sqlx does not return the password of its options.
    let password = decode(url.password().unwrap_or_default())?;
    let port = options.get_port().to_string();
    let mode = format!("{:?}", options.get_ssl_mode());
    let mut hash = Sha256::new();
    for part in [
        options.get_host().as_bytes(),
        port.as_bytes(),
        options.get_username().as_bytes(),
        password.as_bytes(),
        options.get_database().unwrap_or_default().as_bytes(),
        mode.as_bytes(),
        options.get_application_name().unwrap_or_default().as_bytes(),
        &connect_timeout.as_millis().to_be_bytes(),
        &authority,
    ] {
        // Each part is hashed with its length, so that no two parts run into each other.
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    Ok(Login { options, ca, connect_timeout, key: Key(hash.finalize().into()) })
}

/// Returns the `connect_timeout` of a URL, at most [`LONGEST`]. Without it, or with 0, returns [`ACQUIRE_TIMEOUT`].
fn connect_timeout(url: &Url) -> Result<Duration, InvalidUrl> {
    let Some((_, value)) = url.query_pairs().find(|(name, _)| name == "connect_timeout") else {
        return Ok(ACQUIRE_TIMEOUT);
    };
    match value.parse::<u32>() {
        Ok(0) => Ok(ACQUIRE_TIMEOUT),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into()).min(LONGEST)),
        Err(_) => Err(InvalidUrl::Value("connect_timeout", "a number of seconds")),
    }
}

/// Returns the options for a connection URL. Takes nothing from the environment, except what the URL leaves to TLS. `sslmode` is
/// `require` unless the URL contains `disable`, `verify-ca` or `verify-full`: `allow` and `prefer` would permit a connection in
/// clear text, so they are read as `require`. With a certificate authority, `require` checks the certificate against it, as
/// `verify-ca` does.
pub fn parse(text: &str, ca: Option<Vec<u8>>) -> Result<PgConnectOptions, InvalidUrl> {
    options(&read(text)?, ca)
}

fn read(text: &str) -> Result<Url, InvalidUrl> {
    Url::parse(text.trim()).map_err(|e| InvalidUrl::Syntax(syntax(e)))
}

fn options(url: &Url, ca: Option<Vec<u8>>) -> Result<PgConnectOptions, InvalidUrl> {
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(InvalidUrl::Scheme);
    }
    let host = url.host_str().filter(|h| !h.is_empty()).ok_or(InvalidUrl::Host)?;
    let host = host_name(host)?;
    let user = decode(url.username())?;
    if user.is_empty() {
        return Err(InvalidUrl::User);
    }
    let database = decode(url.path().trim_start_matches('/'))?;
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&host)
        .port(url.port().unwrap_or(5432))
        .username(&user)
        .password(&decode(url.password().unwrap_or_default())?)
        .database(if database.is_empty() { &user } else { &database })
        .ssl_mode(PgSslMode::Require)
        .application_name("jobexec-operator")
        // Behind PgBouncer in transaction mode, an unknown start-up parameter is an error.
        .extra_float_digits(None);
    let authority = ca.is_some();
    if let Some(pem) = ca {
        options = options.ssl_root_cert_from_pem(pem);
    }
    for (name, value) in url.query_pairs() {
        options = parameter(options, &name, &value)?;
    }
    // As in libpq: if an authority is given, it is used.
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
        // The function `connect_timeout` reads the value.
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

/// Returns a name, or an address without brackets. libpq and sqlx would treat a host that begins with `/` or `@` as a Unix socket.
fn host_name(host: &str) -> Result<String, InvalidUrl> {
    let host = decode(host)?;
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let name = host.strip_suffix('.').unwrap_or(&host);
    if address.parse::<std::net::IpAddr>().is_ok() {
        Ok(address.to_owned())
    } else if is_name(name) {
        Ok(host)
    } else {
        Err(InvalidUrl::NoHostName)
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
    use crate::net::Dialer;

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
    fn equal_options_have_equal_keys_and_different_ones_have_not() {
        let key = |url: &str, ca: Option<&str>| login(url, ca.map(|ca| ca.as_bytes().to_vec())).unwrap().key;
        let one = key("postgres://u:p@h/d", None);
        for same in [
            "postgresql://u:p@h:5432/d?sslmode=require",
            "postgres://u:%70@h/d?connect_timeout=5&application_name=jobexec-operator",
        ] {
            assert_eq!(key(same, None), one, "{same}");
        }
        for other in [
            "postgres://u:q@h/d",
            "postgres://up@h/d",
            "postgres://v:p@h/d",
            "postgres://u:p@i/d",
            "postgres://u:p@h:5433/d",
            "postgres://u:p@h/e",
            "postgres://u:p@h/d?sslmode=disable",
            "postgres://u:p@h/d?application_name=x",
            "postgres://u:p@h/d?connect_timeout=6",
        ] {
            assert_ne!(key(other, None), one, "{other}");
        }
        assert_ne!(key("postgres://u:p@h/d?sslmode=verify-ca", Some("a")), one);
        assert_ne!(
            key("postgres://u:p@h/d?sslmode=verify-ca", Some("a")),
            key("postgres://u:p@h/d?sslmode=verify-ca", Some("b"))
        );
    }

    #[tokio::test]
    async fn what_is_shown_of_a_login_and_of_those_who_hold_it_has_no_password() {
        let login = login("postgres://u:hunter2@127.0.0.1:9/d", None).unwrap();
        let pools = crate::db::Pools::new(Dialer::unrestricted());
        let timeout = std::time::Duration::from_secs(1);
        let refused = crate::db::Database::shared(&pools, &login, 2, timeout).await;
        let transport = crate::db::relay::Transport::new(Dialer::unrestricted());
        let (_pool, member) = crate::db::pool::Pool::new(&transport, &login, 2).unwrap();
        for shown in
            [format!("{login:?}"), format!("{pools:?}"), format!("{member:?}"), format!("{refused:?}")]
        {
            assert!(!shown.is_empty() && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn an_ipv6_host_loses_its_brackets() {
        assert_eq!(parse("postgres://u@[::1]:5433/d", None).unwrap().get_host(), "::1");
    }

    #[test]
    fn connect_timeout_counts_within_bounds() {
        let timeout =
            |query: &str| login(&format!("postgres://u:p@h/d{query}"), None).unwrap().connect_timeout;
        for (query, seconds) in
            [("", 5), ("?connect_timeout=0", 5), ("?connect_timeout=1", 1), ("?connect_timeout=600", 30)]
        {
            assert_eq!(timeout(query), Duration::from_secs(seconds), "{query}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for host in ["db", "db.example.org.", "my_db", "10.0.0.1", "[fd00::1]", "1-2-3.example"] {
            assert!(parse(&format!("postgres://u:hunter2@{host}/d"), None).is_ok(), "{host}");
        }
        for host in
            ["%2Ftmp%2Fsec", "%2e%2e%2ftmp", "%40abstract", "a%20b", "a%2Fb", "256.1.1.1", "%5B%3A%3A1", "-a"]
        {
            let error = parse(&format!("postgres://u:hunter2@{host}/d"), None).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains("tmp"), "{host}: {error}");
        }
        assert_eq!(parse("postgres://u:p@%2Ftmp%2Fsec/d", None).unwrap_err(), InvalidUrl::NoHostName);
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
