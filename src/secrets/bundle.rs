//! Certificate authorities in PEM form. A user may name any key of any Secret as one, a private key included, so the text is
//! parsed before anything else sees it, and no error repeats any part of it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The only label of a PEM section that a bundle may have.
const LABEL: &str = "CERTIFICATE";

/// How many characters a line of PEM has.
const LINE: usize = 64;

/// Why a text is no bundle of certificate authorities. The texts are fixed: none quotes what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// There is no certificate in it.
    #[error("it holds no certificate in PEM form")]
    Empty,
    /// There is a section that is no certificate.
    #[error("it holds something other than certificates, such as a private key")]
    Other,
    /// The PEM form is broken.
    #[error("its PEM form is broken")]
    Malformed,
    /// What is in the PEM form is no certificate.
    #[error("a certificate in it is not valid X.509")]
    Certificate,
}

/// One or more certificate authorities, each of which was parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct CaBundle(Vec<CertificateDer<'static>>);

impl CaBundle {
    /// Reads a PEM text. Lines outside of its sections, such as comments, do not count.
    pub fn parse(pem: &str) -> Result<Self, InvalidBundle> {
        let labels = pem.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN "));
        for label in labels {
            if label.trim_end_matches('-').trim() != LABEL {
                return Err(InvalidBundle::Other);
            }
        }
        let certificates: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let certificates = certificates.map_err(|_| InvalidBundle::Malformed)?;
        if certificates.is_empty() {
            return Err(InvalidBundle::Empty);
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|_| InvalidBundle::Certificate)?;
        }
        Ok(Self(certificates))
    }

    /// The certificates, at least one.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// The same as trust anchors.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        // Each was added once, when it was read.
        roots.add_parsable_certificates(self.0.iter().cloned());
        roots
    }

    /// The certificates in PEM form, and nothing else.
    pub fn pem(&self) -> String {
        let section = |certificate: &CertificateDer<'_>| {
            let encoded = BASE64.encode(certificate);
            let lines: Vec<&str> = (0..encoded.len())
                .step_by(LINE)
                .filter_map(|at| encoded.get(at..(at + LINE).min(encoded.len())))
                .collect();
            format!("-----BEGIN {LABEL}-----\n{}\n-----END {LABEL}-----\n", lines.join("\n"))
        };
        self.0.iter().map(section).collect()
    }
}

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaBundle({} certificates)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn certificates_are_read_and_written_as_they_were() {
        let (one, two) = (made().0, made().0);
        let bundle = CaBundle::parse(&format!("# of the platform team\n{one}\nsubject=CN\n{two}")).unwrap();
        assert_eq!((bundle.certificates().len(), bundle.roots().len()), (2, 2));
        assert_eq!(CaBundle::parse(&bundle.pem()).unwrap(), bundle);
        assert_eq!(format!("{bundle:?}"), "CaBundle(2 certificates)");
    }

    #[test]
    fn whatever_else_is_refused_and_never_repeated() {
        let (certificate, key) = made();
        let line = key.lines().nth(1).unwrap();
        let cut = key.lines().next().unwrap().to_owned() + line;
        let not_x509 = format!("-----BEGIN CERTIFICATE-----\n{line}\n-----END CERTIFICATE-----\n");
        for (pem, expected) in [
            (String::new(), InvalidBundle::Empty),
            (line.to_owned(), InvalidBundle::Empty),
            (key.clone(), InvalidBundle::Other),
            (cut, InvalidBundle::Other),
            (format!("{certificate}{key}"), InvalidBundle::Other),
            (format!("{certificate}  {key}"), InvalidBundle::Other),
            (format!("{key}{certificate}"), InvalidBundle::Other),
            (key.replace("PRIVATE KEY", "SOMETHING"), InvalidBundle::Other),
            (key.replace("PRIVATE KEY", "CERTIFICATE"), InvalidBundle::Certificate),
            (format!("-----BEGIN CERTIFICATE-----\n{line}"), InvalidBundle::Malformed),
            (format!("-----BEGIN CERTIFICATE-----{line}\n"), InvalidBundle::Other),
            (not_x509.replace(line, &format!("!{line}")), InvalidBundle::Malformed),
            (not_x509, InvalidBundle::Certificate),
        ] {
            let error = CaBundle::parse(&pem).unwrap_err();
            assert_eq!(error, expected, "{pem}");
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains(line), "{shown}");
            }
        }
    }
}
