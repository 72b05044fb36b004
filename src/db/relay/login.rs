//! Checks what a server asks for at a login, message by message. sqlx reads these messages without checking their length, hashes as
//! often as the server asks, and sends the password in any form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Fault;

/// The allowed number of hash iterations of a password: the default of Postgres is 4096, and the maximum takes about a tenth of a
/// second.
const ITERATIONS: std::ops::RangeInclusive<u32> = 1..=100_000;

/// The minimum number of iterations where the identity of the server is not certain: an attacker quickly reverses fewer.
const ITERATIONS_UNVERIFIED: u32 = 4_096;

/// The maximum length of the salt of a password, in bytes.
const SALT: usize = 1_024;

/// The only supported kind of SASL login.
const SCRAM: &str = "SCRAM-SHA-256";

/// The state of a login.
#[derive(Debug)]
pub(super) struct Login {
    /// True if the server's identity is known and nobody else can read the connection.
    trusted: bool,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The server has asked for nothing yet.
    Begun,
    /// The server has asked for a password.
    Password,
    /// The server has listed its SASL mechanisms.
    Sasl,
    /// The server has sent the salt.
    Salted,
    /// The server has proved that it knows the password too.
    Proved,
    /// The server has accepted the login.
    Done,
}

impl Login {
    /// Creates the state of a new login. `trusted`: the server's identity is known, and nobody else can read the connection.
    pub(super) fn new(trusted: bool) -> Self {
        Self { trusted, step: Step::Begun }
    }

    /// Checks the body of the next authentication message.
    pub(super) fn check(&mut self, body: &[u8]) -> Result<(), Fault> {
        let Some((kind, rest)) = body.split_first_chunk::<4>() else {
            return Err(Fault::Malformed("an authentication message without a kind".to_owned()));
        };
        let kind = u32::from_be_bytes(*kind);
        self.step = match (kind, self.step) {
            (0, Step::Begun | Step::Password | Step::Proved) if rest.is_empty() => Step::Done,
            (3, Step::Begun) if rest.is_empty() => self.password("in clear text")?,
            (5, Step::Begun) if rest.len() == 4 => self.password("as an MD5 hash")?,
            (10, Step::Begun) => mechanisms(rest)?,
            (11, Step::Sasl) => salt(rest, self.trusted)?,
            (12, Step::Salted) => proof(rest)?,
            (2 | 6..=9, Step::Begun) => {
                return Err(Fault::Malformed(
                    "it asks for a login by Kerberos, GSSAPI or SSPI, which the operator does not have"
                        .to_owned(),
                ));
            }
            _ => {
                return Err(Fault::Malformed(format!(
                    "an authentication message of kind {kind} out of place"
                )));
            }
        };
        Ok(())
    }

    fn password(&self, how: &str) -> Result<Step, Fault> {
        if self.trusted { Ok(Step::Password) } else { Err(Fault::ExposedPassword(how.to_owned())) }
    }
}

/// Checks a list of names: each ends with a NUL, and another NUL ends the list.
fn mechanisms(list: &[u8]) -> Result<Step, Fault> {
    let names = list.strip_suffix(&[0, 0]).and_then(|names| std::str::from_utf8(names).ok());
    let known = |name: &str| name.strip_prefix(SCRAM).is_some_and(|rest| matches!(rest, "" | "-PLUS"));
    match names {
        Some(names) if names.split('\0').any(known) => Ok(Step::Sasl),
        Some(_) => Err(Fault::Malformed(format!("it has no login by {SCRAM}"))),
        None => Err(Fault::Malformed("a list of SASL mechanisms that is none".to_owned())),
    }
}

/// Checks `r=…,s=…,i=…` as defined in RFC 5802.
fn salt(text: &[u8], trusted: bool) -> Result<Step, Fault> {
    let malformed = || Fault::Malformed("a salt of a SCRAM login that is none".to_owned());
    let attributes = attributes(text).ok_or_else(malformed)?;
    let [('r', nonce), ('s', salt), ('i', iterations), ..] = attributes.as_slice() else {
        return Err(malformed());
    };
    if nonce.is_empty() || !BASE64.decode(salt).is_ok_and(|salt| (1..=SALT).contains(&salt.len())) {
        return Err(malformed());
    }
    let digits = iterations.bytes().all(|byte| byte.is_ascii_digit());
    let Some(iterations) = iterations.parse().ok().filter(|_| digits).filter(|i| ITERATIONS.contains(i))
    else {
        return Err(Fault::TooMuch(format!(
            "the password is to be hashed more than {} times",
            ITERATIONS.end()
        )));
    };
    if !trusted && iterations < ITERATIONS_UNVERIFIED {
        return Err(Fault::ExposedPassword(format!("hashed fewer than {ITERATIONS_UNVERIFIED} times")));
    }
    Ok(Step::Salted)
}

/// Checks `v=…`, or `e=…` if the login failed.
fn proof(text: &[u8]) -> Result<Step, Fault> {
    let valid = |(name, value): &(char, &str)| match name {
        'v' => BASE64.decode(value).is_ok(),
        _ => true,
    };
    match attributes(text) {
        Some(attributes) if attributes.iter().all(valid) => Ok(Step::Proved),
        _ => Err(Fault::Malformed("a proof of a SCRAM login that is none".to_owned())),
    }
}

/// Splits attributes of one letter each, separated by commas.
fn attributes(text: &[u8]) -> Option<Vec<(char, &str)>> {
    let text =
        std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))?;
    let attribute = |part| {
        let (name, value) = str::split_once(part, '=')?;
        let mut letters = name.chars();
        let letter = letters.next().filter(char::is_ascii_alphabetic)?;
        letters.next().is_none().then_some((letter, value))
    };
    text.split(',').map(attribute).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u32, rest: &str) -> Vec<u8> {
        [&kind.to_be_bytes()[..], rest.as_bytes()].concat()
    }

    fn logs_in(trusted: bool, messages: &[(u32, &str)]) -> Result<(), Fault> {
        let mut login = Login::new(trusted);
        messages.iter().try_for_each(|(kind, rest)| login.check(&message(*kind, rest)))?;
        assert_eq!(login.step, Step::Done);
        Ok(())
    }

    const OFFER: (u32, &str) = (10, "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    const SALTED: (u32, &str) = (11, "r=abcdef,s=4UV68bIkC8f9/X8xH7aPhg==,i=4096");
    const PROVED: (u32, &str) = (12, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");

    #[test]
    fn logins_as_they_should_be_pass() {
        logs_in(false, &[OFFER, SALTED, PROVED, (0, "")]).unwrap();
        logs_in(false, &[(0, "")]).unwrap();
        logs_in(true, &[(3, ""), (0, "")]).unwrap();
        logs_in(true, &[(5, "salt"), (0, "")]).unwrap();
        logs_in(true, &[OFFER, (11, "r=a,s=YQ==,i=1"), PROVED, (0, "")]).unwrap();
    }

    #[test]
    fn a_password_is_not_shown_to_whoever_is_on_the_way() {
        for ask in [(3, ""), (5, "salt")] {
            assert!(matches!(logs_in(false, &[ask]), Err(Fault::ExposedPassword(_))), "{ask:?}");
        }
        assert!(matches!(logs_in(false, &[OFFER, (11, "r=a,s=YQ==,i=1")]), Err(Fault::ExposedPassword(_))));
    }

    #[test]
    fn what_would_make_sqlx_panic_or_hash_for_ever_is_refused() {
        for salted in [
            ",,",
            "",
            "r",
            "r=",
            "=",
            "r=a,s=YQ==",
            "r=a,s=YQ==,i=",
            "r=a,s=YQ==,i=+5000",
            "r=a,s=YQ==,i=4294967295",
            "r=a,s=YQ==,i=100001",
            "r=a,s=YQ==,i=0",
            "r=a,s=?,i=4096",
            "r=a,s=,i=4096",
            "r=a,s=YQ==,i=4096,",
            "r=a\0,s=YQ==,i=4096",
        ] {
            assert!(logs_in(true, &[OFFER, (11, salted)]).is_err(), "{salted}");
        }
        for proved in [",,", "", "v", "v=?", ",v=YQ=="] {
            assert!(logs_in(true, &[OFFER, SALTED, (12, proved)]).is_err(), "{proved}");
        }
        for offer in ["", "\0", "X", "SCRAM-SHA-256", "SCRAM-SHA-1\0\0", "SCRAM-SHA-256\0"] {
            assert!(logs_in(true, &[(10, offer)]).is_err(), "{offer:?}");
        }
        for body in [&[][..], &[0], &[0, 0, 0], &[0, 0, 0, 5], &[0, 0, 0, 5, 1, 2, 3], &[0, 0, 0, 7], &[9; 4]]
        {
            assert!(Login::new(true).check(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn nothing_is_asked_for_twice_or_out_of_order() {
        for messages in [
            &[OFFER, OFFER][..],
            &[OFFER, (3, "")],
            &[OFFER, SALTED, SALTED],
            &[OFFER, SALTED, (0, "")],
            &[OFFER, (0, "")],
            &[(0, ""), (0, "")],
            &[(3, ""), (3, "")],
            &[SALTED],
        ] {
            assert!(logs_in(true, messages).is_err(), "{messages:?}");
        }
    }
}
